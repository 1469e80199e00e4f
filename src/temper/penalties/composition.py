"""Composition of several penalties into one, with checks that they are compatible."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple, cast

from pytorch_lightning import Callback
from torch import Tensor, nn

from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.penalty import Exclusive, Penalty, Stage, belongs_to, has_term
from temper.runs.seeding import rekey

CALIBRATION_STEPS = 10  # steps over which a relative weight is set


class Weighted(NamedTuple):
    """A penalty and the weight of its term, with `strength` already applied.

    Attributes:
        penalty: the penalty.
        weight: weight of its term.
        relative: if given, the first steps set the weight such that the gradient norm of the weighted term is `relative` times
            that of the risk.
    """

    penalty: Penalty
    weight: float
    relative: float | None = None


class Penalties(nn.Module):
    """sum of weight_i * penalty_i, and every other hook in turn: by stage, then by name.

    A term of weight 0 is not computed: its run is bit-identical to one without the penalty, and costs the same.

    Args:
        members: penalties with their weights, by name. Their order has no effect.

    Attributes:
        names: names of the members, in the order in which they act.
        weights: weights of the terms before steering, by name.
        factors: multipliers that steering penalties apply to weights or magnitudes, by name.
        relative: weights that are still being calibrated, by name, as ratios of gradient norms.

    Raises:
        ValueError: two members are incompatible, or one has nothing to steer.
    """

    def __init__(self, members: Mapping[str, Weighted] | None = None) -> None:
        super().__init__()
        ordered = sorted((members or {}).items(), key=lambda item: (item[1].penalty.stage, item[0]))
        self.names = [name for name, _ in ordered]
        self.members: Sequence[Penalty] = cast(Sequence[Penalty], nn.ModuleList(member.penalty for _, member in ordered))
        self.weights = {name: member.weight for name, member in ordered}
        self.relative = {name: member.relative for name, member in ordered if member.relative is not None}
        self.factors: dict[str, float] = {}
        self._log_ratios: dict[str, list[float]] = {name: [] for name in self.relative}
        self._key: tuple[int | str, ...] | None = None
        self._check_exclusive()
        self._check_steering()
        steered = [target for penalty in self.members for target in self.steered_by(penalty)]
        self._set_in_training = [name for name in self.names if name in self.relative or name in steered]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Penalty]]:
        return zip(self.names, self.members, strict=True)

    @property
    def weights_from(self) -> str | None:
        """Name of the member whose weights replace the trained ones in validation, checkpoints and tests, if there is one."""
        return next((name for name, penalty in self if penalty.exclusive is Exclusive.REPLACES_WEIGHTS), None)

    def prepare(self, net: Network) -> Network:
        """Let every member modify the network before training.

        Raises:
            ValueError: a member would have no effect on this network; the message names it.
        """
        for name, penalty in self:
            try:
                net = penalty.prepare(net)
            except ValueError as error:
                raise ValueError(f"penalty.{name}: {error}") from None
        return net

    def begin(self, step: int, progress: float, key: tuple[int | str, ...]) -> None:
        """Update the factors and the members before a training step.

        Args:
            step: number of optimizer steps so far.
            progress: fraction of the training that is completed.
            key: seed of the run and position of the step. Each member's randomness is keyed by its name and this key, so it
                does not affect the randomness of other members.
        """
        self._key = key
        for _, penalty in self:
            if (factor := penalty.factor_at(progress)) is not None:
                for target in self.steered_by(penalty):
                    self.steer(target, factor)
        for _, penalty in self:
            penalty.begin(step, progress)

    def transform(self, batch: Batch) -> Batch:
        """Return the batch to train on."""
        for name, penalty in self:
            self._rekey("transform", name)
            batch = penalty.transform(batch)
        return batch

    def attacked_network(self, net: Network, batch: Batch) -> Network:
        """Return the network that the training attack sees."""
        for name, penalty in self:
            if weight := self.weight(name):
                net = penalty.attacked_network(net, batch, weight)
        return net

    def shift(self, net: Network, risk: Callable[[Network], Tensor]) -> dict[str, Tensor]:
        """Return the offsets that are added to parameters before the loss is computed, by parameter name."""
        for name, penalty in self:
            self._rekey("shift", name)
            if shift := penalty.shift(net, risk):
                return shift
        return {}

    def terms(self, net: Network, batch: Batch, x_adv: Tensor) -> dict[str, Tensor]:
        """Compute the terms whose weight is not 0, by name, before their weights."""
        terms = {}
        for name, penalty in self:
            if self.weight(name) or name in self.relative:
                self._rekey("term", name)
                term = penalty.term(net, batch, x_adv)
                if term is not None:
                    terms[name] = term
        return terms

    def weighted_sum(self, terms: Mapping[str, Tensor]) -> Tensor | None:
        """Return the weighted sum of the terms, a scalar; None if no penalty adds to the loss."""
        total = None
        for name, term in terms.items():
            if weight := self.weight(name):
                total = weight * term if total is None else total + weight * term
        return total

    def unused_parameters(self, terms: Mapping[str, Tensor]) -> list[nn.Parameter]:
        """Return the trainable parameters of members that contribute none of these terms."""
        unused = [penalty for name, penalty in self if name not in terms or not self.weight(name)]
        return [parameter for penalty in unused for parameter in penalty.parameters() if parameter.requires_grad]

    def before_step(self, net: Network, lr: float) -> None:
        """Let every member modify weights or gradients just before the optimizer's step."""
        for _, penalty in self:
            penalty.before_step(net, lr)

    def after_step(self, net: Network) -> None:
        """Let every member modify the weights just after the optimizer's step."""
        for _, penalty in self:
            penalty.after_step(net)

    def callbacks(self) -> list[Callback]:
        """Return the Lightning callbacks of all members."""
        return [callback for _, penalty in self for callback in penalty.callbacks(self)]

    def weight(self, name: str) -> float:
        """Return the current weight of a term."""
        return self.weights[name] * self.factors.get(name, 1.0)

    def steered_by(self, penalty: Penalty) -> list[str]:
        """Return the names of the members whose weight or magnitude `penalty` sets."""
        return [name for name, other in self if other is not penalty and penalty.steers(name, other)]

    def steer(self, name: str, factor: float) -> None:
        """Multiply the weight or the magnitude of a member by `factor` from now on."""
        self.factors[name] = factor
        penalty = self.members[self.names.index(name)]
        if not has_term(penalty):
            penalty.scale(factor)

    def calibrate(self, name: str, ratio: float) -> None:
        """Set a relative weight from the geometric mean of the ratios seen so far; after `CALIBRATION_STEPS` it is final.

        Args:
            name: name of the term.
            ratio: gradient norm of the term before its weight, divided by that of the risk.
        """
        if ratio > 0:
            self._log_ratios[name].append(math.log(ratio))
            self.weights[name] = self.relative[name] / math.exp(fmean(self._log_ratios[name]))
        if len(self._log_ratios[name]) == CALIBRATION_STEPS:
            del self.relative[name]

    def metrics(self) -> dict[str, float]:
        """Return the weights and magnitudes that training sets, by metric name."""
        values = {}
        for name, penalty in self:
            if name in self._set_in_training:
                value = self.weight(name) if has_term(penalty) else float(getattr(penalty, penalty.magnitude or ""))
                values[f"train/weight/{name}"] = value
        return values

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the weights, which a resumed run needs."""
        return {
            "weights": dict(self.weights),
            "factors": dict(self.factors),
            "relative": dict(self.relative),
            "settling": {name: list(ratios) for name, ratios in self._log_ratios.items()},
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the weights and factors that training sets; all others keep the value of the config."""
        # `ckpt_path` may name a run with other weights.
        for name in self._log_ratios.keys() & state["settling"].keys():
            self._log_ratios[name] = list(state["settling"][name])
            self.weights[name] = state["weights"][name]
            if name not in state["relative"]:
                self.relative.pop(name, None)
        for name in set(self._set_in_training) & state["factors"].keys():
            self.steer(name, state["factors"][name])

    def _rekey(self, purpose: str, name: str) -> None:
        if self._key is not None:
            seed, *step = self._key
            rekey(cast(int, seed), purpose, name, *step)

    def _check_exclusive(self) -> None:
        """Raise an error if two members take an action that only one can take."""
        taken: dict[Exclusive, str] = {}
        for name, penalty in self:
            if penalty.exclusive is not None and (other := taken.setdefault(penalty.exclusive, name)) != name:
                raise ValueError(f"penalty.{other} and penalty.{name} both {penalty.exclusive.value}. Use only one of them.")

    def _check_steering(self) -> None:
        """Raise an error if a steering penalty has nothing to steer, or two of them steer the same member."""
        steered: dict[str, str] = {}
        for name, penalty in self:
            if penalty.stage is not Stage.STEERING:
                continue
            targets = self.steered_by(penalty)
            for group in getattr(penalty, "of", None) or ():
                if not any(belongs_to(target, group) for target in targets):
                    raise ValueError(
                        f"penalty.{name}.of: this run has no penalty {group} that it can steer. Add {group} to `penalty`, or "
                        "remove it from `of`."
                    )
            if not targets:
                raise ValueError(
                    f"penalty.{name}: it steers other penalties, and this run has none that it can steer. Add one, e.g. "
                    f"penalty=[l2,{name}]."
                )
            for target in targets:
                if (other := steered.setdefault(target, name)) != name:
                    raise ValueError(
                        f"penalty.{other} and penalty.{name} both steer penalty.{target}. Name different penalties in `of`."
                    )
