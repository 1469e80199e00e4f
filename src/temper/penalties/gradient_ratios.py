"""Gradient norms of the penalties relative to that of the risk, which make the strengths of different penalties comparable."""

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as distributed
from torch import Tensor

from temper.penalties.composition import Penalties
from temper.penalties.penalty import has_term


class Ratios:
    """Ratios of the gradient norm of each weighted term to that of the risk.

    They are measured on the first batch of each epoch, and on the first steps while relative weights are calibrated. On those
    batches this costs one more backward pass for the risk and one for each term.

    Args:
        penalties: penalties of the run.
    """

    def __init__(self, penalties: Penalties) -> None:
        self.penalties = penalties
        steered = {target for _, penalty in penalties for target in penalties.steered_by(penalty)}
        self._ratios: dict[str, Tensor | float] = {
            name: 0.0
            for name, penalty in penalties
            if has_term(penalty) and (penalties.weights[name] or name in penalties.relative or name in steered)
        }

    def due(self, batch_idx: int) -> bool:
        """Return True if the ratios are measured on this batch."""
        return bool(self._ratios) and (batch_idx == 0 or bool(self.penalties.relative))

    def note(self, risk: dict[str, Tensor], terms: dict[str, dict[str, Tensor]]) -> None:
        """Update the ratios, and calibrate relative weights by them.

        Args:
            risk: gradient of the risk, by parameter name.
            terms: gradient of each term before its weight, by parameter name.
        """
        reference = gradient_norm(risk)
        for name, gradient in terms.items():
            ratio = mean_over_ranks(gradient_norm(gradient) / reference.clamp_min(1e-30))
            if name in self.penalties.relative:
                self.penalties.calibrate(name, float(ratio))
            self._ratios[name] = self.penalties.weight(name) * ratio

    def metrics(self) -> dict[str, Tensor | float]:
        """Return the last ratios, ||weight * gradient of the term|| / ||gradient of the risk||, by metric name."""
        return {f"train/ratio/{name}": ratio for name, ratio in self._ratios.items()}


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of several tensors as one vector."""
    return torch.stack(torch._foreach_norm(list(tensors))).norm()


def gradient_norm(gradient: Mapping[str, Tensor]) -> Tensor:
    """Return the Euclidean norm of a gradient that is given by parameter name, computed in float32."""
    return total_norm(value.float() for value in gradient.values())


def named_gradients(value: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient of a scalar, by the names of those parameters that it depends on."""
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the mean over all devices that train together, so all of them make the same decision."""
    if not distributed.is_initialized():
        return value
    value = value.clone()
    distributed.all_reduce(value)
    return value / distributed.get_world_size()
