"""Several penalties as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pytorch_lightning import Callback
from torch import Tensor, nn

from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.penalty import Penalty, Place, Stage, adds_a_term
from temper.runs.seeding import rekey

SETTLING = 10  # steps over which a relative weight is set


class Weighted(NamedTuple):
    """A penalty and the weight of its term (strength included).

    Attributes:
        relative: the weight is set at the first steps instead, such that the gradient of the weighted term is this times as
            long as the risk's.
    """

    penalty: Penalty
    weight: float
    relative: float | None = None


class Penalties(nn.Module):
    """sum of weight_i * penalty_i, and every other hook in turn: by stage, then by name, however they were listed.

    A penalty of weight 0 is not evaluated at all, so that its run equals that of `none` to the bit and costs nothing.

    Attributes:
        names: of the members, in the order in which they act.
        weights: of their terms, by name.
        factors: by which a penalty that steers multiplies weights or magnitudes, by name.
        relative: weights that are yet to be set, by name, as a ratio of gradients.

    Raises:
        ValueError: two members cannot be together, or one steers nothing.
    """

    def __init__(self, members: Mapping[str, Weighted] | None = None) -> None:
        super().__init__()
        ordered = sorted((members or {}).items(), key=lambda item: (item[1].penalty.stage, item[0]))
        self.names = [name for name, _ in ordered]
        self.members: Sequence[Penalty] = cast(Sequence[Penalty], nn.ModuleList(member.penalty for _, member in ordered))
        self.weights = {name: member.weight for name, member in ordered}
        self.relative = {name: member.relative for name, member in ordered if member.relative is not None}
        self.factors: dict[str, float] = {}
        self._settling: dict[str, list[float]] = {name: [] for name in self.relative}
        self._key: tuple[int | str, ...] | None = None
        check_together(self)
        steered = [target for penalty in self.members for target in self.steered_by(penalty)]
        self._told = [name for name in self.names if name in self.relative or name in steered]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Penalty]]:
        return zip(self.names, self.members, strict=True)

    @property
    def stand_in(self) -> str | None:
        """The member whose weights stand in for the trained ones, by its name."""
        return next((name for name, penalty in self if penalty.place is Place.STANDS_IN), None)

    def steered_by(self, penalty: Penalty) -> list[str]:
        """Names of the members whose weight or magnitude another one sets."""
        return [name for name, other in self if other is not penalty and penalty.steers(name, other)]

    def weight(self, name: str) -> float:
        """Of a term at this moment."""
        return self.weights[name] * self.factors.get(name, 1.0)

    def steer(self, name: str, factor: float) -> None:
        """Multiply the weight or the magnitude of a member from now on."""
        self.factors[name] = factor
        penalty = self.members[self.names.index(name)]
        if not adds_a_term(penalty):
            penalty.scale(factor)

    def settle(self, name: str, ratio: float) -> None:
        """Set a relative weight, given how long the gradient of the term is, before its weight, beside the risk's.

        By the geometric mean over the first steps; then it stays.
        """
        if ratio > 0:
            self._settling[name].append(math.log(ratio))
            self.weights[name] = self.relative[name] / math.exp(fmean(self._settling[name]))
        if len(self._settling[name]) == SETTLING:
            del self.relative[name]

    def metrics(self) -> dict[str, float]:
        """The weights and magnitudes that are set in training, by metric name."""
        told = {}
        for name, penalty in self:
            if name in self._told:
                value = self.weight(name) if adds_a_term(penalty) else float(getattr(penalty, penalty.magnitude or ""))
                told[f"train/weight/{name}"] = value
        return told

    def prepare(self, net: Network) -> Network:
        for name, penalty in self:
            try:
                net = penalty.prepare(net)
            except ValueError as error:
                raise ValueError(f"penalty.{name}: {error}") from None
        return net

    def begin(self, step: int, done: float, key: tuple[int | str, ...]) -> None:
        """Before each training step. What a member draws is keyed by its name and `key`, so that it shifts no other draw."""
        self._key = key
        for _, penalty in self:
            if (factor := penalty.course(done)) is not None:
                for target in self.steered_by(penalty):
                    self.steer(target, factor)
        for _, penalty in self:
            penalty.begin(step, done)

    def transform(self, batch: Batch) -> Batch:
        for name, penalty in self:
            self._rekey("transform", name)
            batch = penalty.transform(batch)
        return batch

    def exposed(self, net: Network, batch: Batch) -> Network:
        for name, penalty in self:
            if weight := self.weight(name):
                net = penalty.exposed(net, batch, weight)
        return net

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        for name, penalty in self:
            self._rekey("shift", name)
            if shift := penalty.shift(net, risk):
                return shift
        return {}

    def terms(self, net: Network, batch: Batch, x_adv: Tensor) -> dict[str, Tensor]:
        """The terms that are switched on, by name, before their weights."""
        terms = {}
        for name, penalty in self:
            if self.weight(name) or name in self.relative:
                self._rekey("term", name)
                term = penalty.term(net, batch, x_adv)
                if term is not None:
                    terms[name] = term
        return terms

    def idle(self, terms: Mapping[str, Tensor]) -> list[nn.Parameter]:
        """Parameters of members that take no part in these terms."""
        absent = [penalty for name, penalty in self if name not in terms or not self.weight(name)]
        return [parameter for penalty in absent for parameter in penalty.parameters() if parameter.requires_grad]

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor | None:
        """The weighted sum, a scalar; None where no penalty adds to the loss."""
        total = None
        for name, term in terms.items():
            if weight := self.weight(name):
                total = weight * term if total is None else total + weight * term
        return total

    def before_step(self, net: Network, lr: float) -> None:
        for _, penalty in self:
            penalty.before_step(net, lr)

    def after_step(self, net: Network) -> None:
        for _, penalty in self:
            penalty.after_step(net)

    def callbacks(self) -> list[Callback]:
        return [callback for _, penalty in self for callback in penalty.callbacks(self)]

    def get_extra_state(self) -> dict[str, Any]:
        """What a resumed run must know of the weights."""
        return {
            "weights": dict(self.weights),
            "factors": dict(self.factors),
            "relative": dict(self.relative),
            "settling": {name: list(seen) for name, seen in self._settling.items()},
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        # What the config says of a weight counts, unless it says that training sets it; `ckpt_path` may name another run.
        for name in self._settling.keys() & state["settling"].keys():
            self._settling[name] = list(state["settling"][name])
            self.weights[name] = state["weights"][name]
            if name not in state["relative"]:
                self.relative.pop(name, None)
        for name in set(self._told) & state["factors"].keys():
            self.steer(name, state["factors"][name])

    def _rekey(self, purpose: str, name: str) -> None:
        if self._key is not None:
            seed, *step = self._key
            rekey(cast(int, seed), purpose, name, *step)


if TYPE_CHECKING:
    from temper.penalties.composition import Penalties

# How two penalties that share a place are told to be at odds.
CLASHES = {
    Place.DISPLACES: "both displace the weights at which the loss is taken",
    Place.STANDS_IN: "would both stand in for the trained weights",
}


def check_together(penalties: Penalties) -> None:
    """Whether no two members do what one alone can, and every one that steers finds what it steers.

    Raises:
        ValueError: naming those that are at odds.
    """
    taken: dict[Place, str] = {}
    for name, penalty in penalties:
        if penalty.place is not None and (other := taken.setdefault(penalty.place, name)) != name:
            raise ValueError(f"penalty.{other} and penalty.{name} {CLASHES[penalty.place]}; take one of them")
    steered: dict[str, str] = {}
    for name, penalty in penalties:
        if penalty.stage is not Stage.STEERING:
            continue
        found = penalties.steered_by(penalty)
        for of in getattr(penalty, "of", None) or ():
            if not any(is_or_is_part_of(target, of) for target in found):
                raise ValueError(f"penalty.{name}.of: this run has no penalty {of} that it can steer")
        if not found:
            raise ValueError(f"penalty.{name} steers other penalties, and finds none: list it with one, penalty=[l2,{name}]")
        for target in found:
            if (other := steered.setdefault(target, name)) != name:
                raise ValueError(f"penalty.{other} and penalty.{name} both steer penalty.{target}; name others in `of`")


def is_or_is_part_of(name: str, whole: str) -> bool:
    """Whether a member's dotted name is this one, or lies in the group of this name."""
    return name == whole or name.startswith(f"{whole}.")
