"""How long the gradient of each penalty is beside that of the risk: what makes strengths of different penalties comparable."""

from collections.abc import Mapping

import torch
import torch.distributed as distributed
from torch import Tensor

from temper.penalties.composition import Penalties
from temper.penalties.penalty import adds_a_term


class Ratios:
    """Measured on the first batch of each epoch, and at the first steps where a weight is to be set by it.

    Costs one backward pass more for the risk, and one for each term, on those batches.
    """

    def __init__(self, penalties: Penalties) -> None:
        self.penalties = penalties
        steered = {target for _, penalty in penalties for target in penalties.steered_by(penalty)}
        self._seen: dict[str, Tensor | float] = {
            name: 0.0
            for name, penalty in penalties
            if adds_a_term(penalty) and (penalties.weights[name] or name in penalties.relative or name in steered)
        }

    def due(self, batch_idx: int) -> bool:
        """Whether this batch is one to measure."""
        return bool(self._seen) and (batch_idx == 0 or bool(self.penalties.relative))

    def note(self, risk: dict[str, Tensor], terms: dict[str, dict[str, Tensor]]) -> None:
        """Given the gradients of the risk and of each term before its weight, by the names of parameters."""
        reference = length(risk)
        for name, gradient in terms.items():
            ratio = mean_over_ranks(length(gradient) / reference.clamp_min(1e-30))
            if name in self.penalties.relative:
                self.penalties.settle(name, float(ratio))
            self._seen[name] = self.penalties.weight(name) * ratio

    def metrics(self) -> dict[str, Tensor | float]:
        """|weight * gradient of the term| / |gradient of the risk| by metric name, as measured last."""
        return {f"train/ratio/{name}": ratio for name, ratio in self._seen.items()}


def length(gradient: Mapping[str, Tensor]) -> Tensor:
    """Euclidean length of a gradient that is given parameter by parameter."""
    return torch.stack(torch._foreach_norm([value.float() for value in gradient.values()])).norm()


def mean_over_ranks(value: Tensor) -> Tensor:
    """Over all devices that train together, so that each of them concludes the same."""
    if not distributed.is_initialized():
        return value
    value = value.clone()
    distributed.all_reduce(value)
    return value / distributed.get_world_size()
