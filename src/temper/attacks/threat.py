"""What the adversary may do: a norm, a radius, a valid range."""

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
    """The set {x' : ||x' - x|| <= eps, lower <= x' <= upper} around an input x, (B, ...), example by example.

    Args:
        eps: radius, as papers write it ("8/255" is parsed exactly).
        lower, upper: the valid range of every input value; of the rows of a table each feature has its own (`on`).

    Attributes:
        norm: its name.
        power: the one to which lengths of parts add up.
        domain: what the features of a table may be.

    Raises:
        ValueError: eps is not positive, the range is empty, or (linf) eps spans the whole range.
    """

    eps: Positive
    lower: Number = 0.0
    upper: Number = 1.0

    norm: ClassVar[str]
    power: ClassVar[float]
    domain: ClassVar[Domain | None] = None

    def __post_init__(self) -> None:
        if self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower:g}) should be below upper ({self.upper:g})")
        if self.norm == "linf" and self.eps > self.upper - self.lower:
            hint = f": did you mean {self.eps:g}/255?" if (self.lower, self.upper) == (0, 1) else ""
            raise ValueError(f"eps of {self.eps:g} covers the whole valid range [{self.lower:g}, {self.upper:g}]{hint}")

    @abstractmethod
    def diameter(self, features: int) -> float:
        """The largest distance between two valid inputs with so many features; a larger eps is no constraint."""

    @abstractmethod
    def length(self, delta: Tensor) -> Tensor:
        """Norm of each example's perturbation, (B, ...) -> (B,)."""

    @abstractmethod
    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        """The step of length 1 that climbs a linear function with this gradient fastest, (B, ...); 0 where the gradient is.

        Args:
            at: where the step begins, for a norm whose best step depends on which values stand at the edge of the range.
        """

    @abstractmethod
    def uniform(self, x: Tensor) -> Tensor:
        """A perturbation drawn from the ball of radius eps, shaped like x."""

    @abstractmethod
    def shrink(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        """A perturbation back in the ball of radius eps, a new tensor; for l1 the nearest that the range around x allows."""

    def _widths(self) -> Tensor:
        """Of the valid range, one or one a feature, float64."""
        return torch.as_tensor(self.upper - self.lower, dtype=torch.float64)

    def at(self, eps: float | None) -> Self:
        """The same set with another radius; None: itself."""
        return self if eps is None else replace(self, eps=eps)

    def on(self, batch: Batch) -> Self:
        """The same set for these inputs: of the rows of a table those that are valid (`Batch.domain`); of others itself."""
        if batch.domain is None:
            return self
        threat, domain = copy.copy(self), batch.domain
        # Not `replace`, which would hold tensors to be numbers.
        for name, value in (("domain", domain), ("lower", domain.lower), ("upper", domain.upper)):
            object.__setattr__(threat, name, value)
        return threat

    def start(self, x: Tensor, how: Start) -> Tensor:
        """Where an attack begins, inside the set: at x, uniformly in the set, or at x + 0.001 * normal (TRADES).

        The three are different attacks with different results, so the choice is a named setting.
        """
        return self.around(x).start(how)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Back into the set, for float32 rounding."""
        return self.shrink(x_adv - x, x).add_(x).clamp_(self.lower, self.upper)

    def around(self, x: Tensor) -> "Ball":
        """The set around these inputs, for an inner loop to move in."""
        return Ball(self, x)

    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The result of an attack in x's own precision and inside the set exactly, whatever the rounding: towards x."""
        origin = x.double()
        # A hair inside, since the norm of a projected perturbation is itself rounded.
        delta = self.shrink(x_adv.double() - origin, origin)
        exact = delta.mul_(1 - 1e-12).add_(origin).clamp_(self.lower, self.upper)
        return self.settle(_towards(exact, x, origin), x)

    def settle(self, z: Tensor, x: Tensor) -> Tensor:
        """A point z of the set around x, (B, F), as the row of a table that it stands for, which is no further away; other
        inputs as they are.

        A category changes to the one where z is largest if the radius allows the whole way there, one after another, and what
        the radius then leaves is for the other features; integers are rounded towards x.
        """
        domain = self.domain
        if domain is None or not domain.discrete:
            return z
        origin, change = x.double(), torch.zeros_like(x)
        for group in domain.groups:
            further = change + domain.category_towards(x, z, group)
            change = torch.where(per_example(self.length(further.double()) <= self.eps, x), further, change)
        delta = (z.double() - origin).masked_fill(domain.categorical, 0)
        if self.power < math.inf:
            left = (self.eps**self.power - self.length(change.double()) ** self.power).clamp_min(0) ** (1 / self.power)
            share = left * (1 - 1e-12) / self.length(delta).clamp_min(1e-30)
            delta = delta * per_example(share.clamp_max(1), delta)
        return domain.whole_towards(x, _towards(origin + delta, x, origin)) + change


class Ball:
    """The threat set around x, (B, ...): what an inner loop computes once for all of its steps.

    Nothing here changes a tensor that it was given, so that a compiled step is a function of its inputs.
    """

    def __init__(self, threat: Threat, x: Tensor) -> None:
        self.threat, self.x = threat, x

    def select(self, rows: Tensor) -> "Ball":
        """The set around these examples alone, (n,) int64."""
        return Ball(self.threat, self.x[rows])

    def start(self, how: Start, mask: Tensor | None = None) -> Tensor:
        """Where an attack begins (see `Threat.start`); where the mask is 0, at x."""
        if how == "zero":
            return self.x.clone()
        start = self.back(self.x + (self.threat.uniform(self.x) if how == "uniform" else 0.001 * torch.randn_like(self.x)))
        return start if mask is None else torch.where(mask > 0, start, self.x)

    def step(self, z: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """The point after a step of this length along the gradient's steepest direction, back inside the set."""
        # Not `alpha=size`, which takes no tensor.
        return self.back(z + size * self.threat.direction(gradient, z))

    def back(self, z: Tensor) -> Tensor:
        """A point z, (B, ...), back inside the set, for float32 rounding."""
        return self.threat.project(z, self.x)

    def finish(self, z: Tensor) -> Tensor:
        """The result of the loop, inside the set exactly."""
        return self.threat.finish(z, self.x)


def _towards(exact: Tensor, x: Tensor, origin: Tensor) -> Tensor:
    """A float64 point in the precision of x, rounded towards it; `origin` is x in float64."""
    rounded = exact.to(x.dtype)
    outside = (rounded.double() - origin).abs_() > (exact - origin).abs_()
    return torch.where(outside, torch.nextafter(rounded, x), rounded)


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """One value for each example, (B,), shaped so that it multiplies (B, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
