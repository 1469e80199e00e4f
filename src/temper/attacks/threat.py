"""Threat models: a norm, a radius and a valid range, which span the perturbation set around an input."""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Literal, Self

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from temper.config.types import Number, Positive
from temper.data.batch import Batch
from temper.data.domain import Domain

Start = Literal["zero", "uniform", "gaussian"]


@dataclass(frozen=True, kw_only=True)
class Threat(ABC):
    """The perturbation set {x' : ||x' - x|| <= eps, lower <= x' <= upper} around each input x of a batch (B, ...).

    Args:
        eps: radius, as papers write it ("8/255" is parsed exactly).
        lower: smallest valid input value; for table rows one per feature (`for_batch`).
        upper: largest valid input value, likewise.

    Attributes:
        norm: name of the norm.
        power: exponent p for which the p-th powers of the lengths of disjoint parts add up.
        domain: valid values of table features; None for other inputs.

    Raises:
        ValueError: eps is not positive, the range is empty, or (linf) eps covers the whole range.
    """

    eps: Positive
    lower: Number = 0.0
    upper: Number = 1.0

    norm: ClassVar[str]
    power: ClassVar[float]
    domain: ClassVar[Domain | None] = None

    def __post_init__(self) -> None:
        if self.lower >= self.upper:
            raise ValueError(f"lower={self.lower:g}: should be below upper={self.upper:g}")
        if self.norm == "linf" and self.eps > self.upper - self.lower:
            hint = f"; did you mean {self.eps:g}/255?" if (self.lower, self.upper) == (0, 1) else ""
            raise ValueError(f"eps={self.eps:g}: covers the whole valid range [{self.lower:g}, {self.upper:g}]{hint}")

    @abstractmethod
    def diameter(self, features: int) -> float:
        """Return the largest distance between two valid inputs with this many features; a larger eps does not constrain."""

    @abstractmethod
    def length(self, delta: Tensor) -> Tensor:
        """Return the norm of each example's perturbation, (B, ...) -> (B,)."""

    @abstractmethod
    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the step of length 1 that increases a linear function with this gradient the most, (B, ...).

        Args:
            gradient: gradient of the function, (B, ...). Where an example's gradient is 0, so is its step.
            at: point at which the step begins, for a norm whose best step depends on the values at the edge of the range.
        """

    @abstractmethod
    def uniform(self, x: Tensor) -> Tensor:
        """Draw perturbations uniformly from the ball of radius eps, shaped like x."""

    @abstractmethod
    def project_delta(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        """Project perturbations, (B, ...), onto the ball of radius eps; for l1 and given x, onto ball and valid range at once.

        The result is a new tensor.
        """

    def _range_width(self) -> Tensor:
        """Return the width of the valid range, one value or one per feature, float64."""
        return torch.as_tensor(self.upper - self.lower, dtype=torch.float64)

    def with_eps(self, eps: float | None) -> Self:
        """Return the threat with another radius; with None, return the threat itself."""
        return self if eps is None else replace(self, eps=eps)

    def for_batch(self, batch: Batch) -> Self:
        """Return the threat with the valid values of a batch of table rows (`Batch.domain`); for other inputs, itself."""
        if batch.domain is None:
            return self
        threat, domain = copy.copy(self), batch.domain
        # `replace` would validate the tensors as numbers.
        for name, value in (("domain", domain), ("lower", domain.lower), ("upper", domain.upper)):
            object.__setattr__(threat, name, value)
        return threat

    def start(self, x: Tensor, how: Start) -> Tensor:
        """Return the first points of an attack, inside the set: x, uniform in the set, or x + 0.001 * normal (TRADES).

        The three are different attacks with different results, so the choice is a named setting.
        """
        return self.around(x).start(how)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Project points, (B, ...), onto the set around x, up to float32 rounding."""
        return self.project_delta(x_adv - x, x).add_(x).clamp_(self.lower, self.upper)

    def around(self, x: Tensor) -> "Ball":
        """Return the perturbation set around x, (B, ...), for use in an inner loop."""
        return Ball(self, x)

    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Project the result of an attack, (B, ...), exactly onto the set in x's precision, by rounding towards x."""
        origin = x.double()
        # The norm of a projected perturbation is itself rounded, so it is shrunk by a tiny factor.
        delta = self.project_delta(x_adv.double() - origin, origin)
        exact = delta.mul_(1 - 1e-12).add_(origin).clamp_(self.lower, self.upper)
        return self.round_to_domain(_round_towards(exact, x, origin), x)

    def round_to_domain(self, z: Tensor, x: Tensor) -> Tensor:
        """Round points z of the set around x, (B, F), to valid table rows that are no further from x.

        Other inputs are returned unchanged. Each category in turn changes to the one where z is largest, if the radius allows
        the whole change. The remaining radius goes to the other features, whose integers are rounded towards x.
        """
        domain = self.domain
        if domain is None or not domain.discrete:
            return z
        origin, change = x.double(), torch.zeros_like(x)
        for group in domain.groups:
            candidate = change + domain.category_change(x, z, group)
            change = torch.where(per_example(self.length(candidate.double()) <= self.eps, x), candidate, change)
        delta = (z.double() - origin).masked_fill(domain.categorical, 0)
        if self.power < math.inf:
            remaining = (self.eps**self.power - self.length(change.double()) ** self.power).clamp_min(0) ** (1 / self.power)
            factor = remaining * (1 - 1e-12) / self.length(delta).clamp_min(1e-30)
            delta = delta * per_example(factor.clamp_max(1), delta)
        return domain.round_towards(x, _round_towards(origin + delta, x, origin)) + change


class Ball:
    """The perturbation set around x, (B, ...), which holds what an inner loop needs in every step.

    No method changes a tensor that it was given, so a compiled step is a function of its inputs.

    Args:
        threat: the threat model.
        x: the inputs, (B, ...).
    """

    def __init__(self, threat: Threat, x: Tensor) -> None:
        self.threat, self.x = threat, x

    def select(self, rows: Tensor) -> "Ball":
        """Return the set around a selection of the examples, (n,) int64."""
        return Ball(self.threat, self.x[rows])

    def start(self, how: Start, mask: Tensor | None = None) -> Tensor:
        """Return the first points of an attack (see `Threat.start`); where the mask is 0, x."""
        if how == "zero":
            return self.x.clone()
        delta = self.threat.uniform(self.x) if how == "uniform" else 0.001 * torch.randn_like(self.x)
        start = self.project(self.x + delta)
        return start if mask is None else torch.where(mask > 0, start, self.x)

    def step(self, z: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """Return the points after a step of length `size` in the steepest direction of the gradient, projected onto the set."""
        # `add` with `alpha=size` does not take a tensor.
        return self.project(z + size * self.threat.direction(gradient, z))

    def project(self, z: Tensor) -> Tensor:
        """Project points z, (B, ...), onto the set, up to float32 rounding."""
        return self.threat.project(z, self.x)

    def finish(self, z: Tensor) -> Tensor:
        """Project the result of the loop, (B, ...), exactly onto the set."""
        return self.threat.finish(z, self.x)


def _round_towards(exact: Tensor, x: Tensor, origin: Tensor) -> Tensor:
    """Round float64 points to the precision of x, towards x; `origin` is x in float64."""
    rounded = exact.to(x.dtype)
    outside = (rounded.double() - origin).abs_() > (exact - origin).abs_()
    return torch.where(outside, torch.nextafter(rounded, x), rounded)


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one value per example, (B,), to broadcast against (B, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
