"""Several penalties as one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from temper.data.batch import Batch
from temper.models.network import Network
from temper.penalties.penalty import Penalty


class Weighted(NamedTuple):
    """A penalty and the weight of its term (strength included)."""

    penalty: Penalty
    weight: float


class Penalties(nn.Module):
    """sum of weight_i * penalty_i, and every other hook in turn: by stage, then by name, however they were listed.

    A penalty of weight 0 is not evaluated at all, so that its run equals that of `none` to the bit and costs nothing.
    """

    def __init__(self, members: Mapping[str, Weighted] | None = None) -> None:
        super().__init__()
        ordered = sorted((members or {}).items(), key=lambda item: (item[1].penalty.stage, item[0]))
        self.names = [name for name, _ in ordered]
        self.weights = [member.weight for _, member in ordered]
        self.members: Sequence[Penalty] = cast(Sequence[Penalty], nn.ModuleList(member.penalty for _, member in ordered))

    def __len__(self) -> int:
        return len(self.names)

    def prepare(self, net: Network) -> Network:
        for name, penalty in zip(self.names, self.members, strict=True):
            try:
                net = penalty.prepare(net)
            except ValueError as error:
                raise ValueError(f"penalty.{name}: {error}") from None
        return net

    def transform(self, batch: Batch) -> Batch:
        for penalty in self.members:
            batch = penalty.transform(batch)
        return batch

    def term(self, net: Network, batch: Batch) -> Tensor | None:
        """The weighted sum, a scalar; None where no penalty adds to the loss."""
        total = None
        for weight, penalty in zip(self.weights, self.members, strict=True):
            term = penalty.term(net, batch) if weight else None
            if term is not None:
                total = weight * term if total is None else total + weight * term
        return total

    def before_step(self, net: Network, lr: float) -> None:
        for penalty in self.members:
            penalty.before_step(net, lr)
