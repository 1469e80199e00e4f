"""What the adversary may do: a norm, a radius, a valid range."""

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Literal, Self

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from temper.arguments import Number, Positive, Probability

Start = Literal["zero", "uniform", "gaussian"]


@dataclass(frozen=True, kw_only=True)
class Threat(ABC):
    """The set {x' : ||x' - x|| <= eps, lower <= x' <= upper} around an input x, (B, ...), example by example.

    Args:
        eps: radius, as papers write it ("8/255" is parsed exactly).
        lower, upper: the valid range of every input value.

    Raises:
        ValueError: eps is not positive, the range is empty, or (linf) eps spans the whole range.
    """

    eps: Positive
    lower: Number = 0.0
    upper: Number = 1.0

    norm: ClassVar[str]

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

    def at(self, eps: float | None) -> Self:
        """The same set with another radius; None: itself."""
        return self if eps is None else replace(self, eps=eps)

    def start(self, x: Tensor, how: Start) -> Tensor:
        """Where an attack begins, inside the set: at x, uniformly in the set, or at x + 0.001 * normal (TRADES).

        The three are different attacks with different results, so the choice is a named setting.
        """
        if how == "zero":
            return x.clone()
        delta = self.uniform(x) if how == "uniform" else 0.001 * torch.randn_like(x)
        return self.project(x + delta, x)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Back into the set, for float32 rounding."""
        return self.shrink(x_adv - x, x).add_(x).clamp_(self.lower, self.upper)

    def finish(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The result of an attack in x's own precision and inside the set exactly, whatever the rounding: towards x."""
        origin = x.double()
        # A hair inside, since the norm of a projected perturbation is itself rounded.
        delta = self.shrink(x_adv.double() - origin, origin)
        exact = delta.mul_(1 - 1e-12).add_(origin).clamp_(self.lower, self.upper)
        rounded = exact.to(x.dtype)
        outside = (rounded.double() - origin).abs_() > (exact - origin).abs_()
        return torch.where(outside, torch.nextafter(rounded, x), rounded)


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """One value for each example, (B,), shaped so that it multiplies (B, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


class Linf(Threat):
    """Every value may move by eps."""

    norm = "linf"

    def diameter(self, features: int) -> float:
        return self.upper - self.lower

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1)

    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        return gradient.sign()

    def uniform(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).uniform_(-self.eps, self.eps)

    def shrink(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        return delta.clamp(-self.eps, self.eps)


class L2(Threat):
    """The Euclidean length of the perturbation is at most eps."""

    norm = "l2"

    def diameter(self, features: int) -> float:
        return (self.upper - self.lower) * math.sqrt(features)

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).norm(dim=1)

    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        # The largest entry is scaled to 1 first, so that squares of tiny gradients do not underflow.
        scale = gradient.flatten(1).abs().amax(1)
        gradient = gradient / per_example(scale.masked_fill(scale == 0, 1), gradient)
        length = self.length(gradient)
        return gradient / per_example(length.masked_fill(length == 0, 1), gradient)

    def uniform(self, x: Tensor) -> Tensor:
        radius = self.eps * torch.rand(len(x), device=x.device, dtype=x.dtype) ** (1 / x[0].numel())
        return self.direction(torch.randn_like(x)) * per_example(radius, x)

    def shrink(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        length = self.length(delta)
        factor = torch.where(length > self.eps, self.eps / length, torch.ones_like(length))
        return delta * per_example(factor, delta)


@dataclass(frozen=True, kw_only=True)
class L1(Threat):
    """The absolute changes add up to at most eps: few values may move far.

    Args:
        spread: share of the values that one step moves, at least one of them. A single value is the steepest step; on images of
            thousands of pixels it takes too many of them (Tramer & Boneh 2019, https://arxiv.org/abs/1904.13000, move the top 1
            %).
    """

    spread: Probability = 0.01

    norm = "l1"

    def diameter(self, features: int) -> float:
        return (self.upper - self.lower) * features

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().sum(1)

    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        if at is not None:
            stuck = ((at <= self.lower) & (gradient < 0)) | ((at >= self.upper) & (gradient > 0))
            gradient = gradient.masked_fill(stuck, 0)
        flat = gradient.flatten(1)
        top = flat.abs().topk(max(1, round(self.spread * flat.shape[1])), dim=1).indices
        signs = flat.gather(1, top).sign()
        step = torch.zeros_like(flat).scatter(1, top, signs / signs.abs().sum(1, keepdim=True).clamp_min(1))
        return step.view_as(gradient)

    def uniform(self, x: Tensor) -> Tensor:
        # The first n of n + 1 exponentials, over their sum, are uniform in the simplex.
        parts = -torch.rand(len(x), x[0].numel() + 1, device=x.device, dtype=x.dtype).clamp_min(1e-30).log()
        sizes = (parts / parts.sum(1, keepdim=True))[:, :-1].view_as(x)
        return self.eps * sizes * (torch.randint(2, x.shape, device=x.device) * 2 - 1)

    def shrink(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        """The nearest point of ball and range at once: clipping after projecting would give part of eps away.

        Croce & Hein 2021 (https://arxiv.org/abs/2103.01208), proposition 2.1: every value moves towards 0 by the same amount t
        as far as it may, sum of clamp(|d| - t, 0, room) = eps. The sum is piecewise linear in t, so that sorting its corners
        finds t.
        """
        size = delta.abs().flatten(1)
        room = size
        if x is not None:
            room = torch.where(delta > 0, self.upper - x, x - self.lower).clamp_min(0).flatten(1)
        corners, order = torch.cat([size, size - room], 1).sort(dim=1, descending=True)
        slope = torch.where(order < size.shape[1], 1.0, -1.0).to(size.dtype).cumsum(1)
        sums = (slope[:, :-1] * -corners.diff(dim=1)).cumsum(1)
        before = (sums < self.eps).sum(1, keepdim=True).clamp_max(sums.shape[1] - 1)
        t = corners.gather(1, before + 1) + (sums.gather(1, before) - self.eps) / slope.gather(1, before).clamp_min(1)
        within = torch.minimum(size, room)
        shrunk = torch.minimum((size - t.clamp_min(0)).clamp_min(0), room)
        chosen = torch.where(within.sum(1, keepdim=True) <= self.eps, within, shrunk)
        return chosen.view_as(delta) * delta.sign()
