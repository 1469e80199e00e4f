"""Threat models of the linf, l2 and l1 norms."""

import math

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from temper.attacks.threat import Ball, Threat, per_example
from temper.config.types import Probability


class Linf(Threat):
    """Linf threat: every value changes by at most eps."""

    norm, power = "linf", math.inf

    def diameter(self, features: int) -> float:
        return float(self._range_width().max())

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().amax(1)

    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        return gradient.sign()

    def uniform(self, x: Tensor) -> Tensor:
        return torch.empty_like(x).uniform_(-self.eps, self.eps)

    def project_delta(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        return delta.clamp(-self.eps, self.eps)

    def around(self, x: Tensor) -> Ball:
        return Box(self, x)


class Box(Ball):
    """Linf ball as a box whose corners are in x's precision, rounded towards x: a single clamp projects exactly."""

    def __init__(self, threat: Threat, x: Tensor) -> None:
        super().__init__(threat, x)
        origin = x.double()
        self.lowest = self._round_corner((origin - threat.eps).clamp_(min=threat.lower), origin)
        self.highest = self._round_corner((origin + threat.eps).clamp_(max=threat.upper), origin)

    def _round_corner(self, corner: Tensor, origin: Tensor) -> Tensor:
        rounded, threat = corner.to(self.x.dtype), self.threat
        exact = rounded.double()
        outside = ((exact - origin).abs_() > threat.eps) | (exact < threat.lower) | (exact > threat.upper)
        return torch.where(outside, rounded.nextafter(self.x), rounded)

    def select(self, rows: Tensor) -> Ball:
        return Box(self.threat, self.x[rows])

    def project(self, z: Tensor) -> Tensor:
        return z.clamp(self.lowest, self.highest)

    def finish(self, z: Tensor) -> Tensor:
        return self.threat.round_to_domain(z, self.x)


class L2(Threat):
    """L2 threat: the Euclidean norm of the perturbation is at most eps."""

    norm, power = "l2", 2

    def diameter(self, features: int) -> float:
        return float(self._range_width().square().mean().sqrt()) * math.sqrt(features)

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).norm(dim=1)

    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        # The largest entry is scaled to 1 first: squares of tiny gradients would underflow.
        scale = gradient.flatten(1).abs().amax(1)
        gradient = gradient / per_example(scale.masked_fill(scale == 0, 1), gradient)
        length = self.length(gradient)
        return gradient / per_example(length.masked_fill(length == 0, 1), gradient)

    def uniform(self, x: Tensor) -> Tensor:
        radius = self.eps * torch.rand(len(x), device=x.device, dtype=x.dtype) ** (1 / x[0].numel())
        return self.direction(torch.randn_like(x)) * per_example(radius, x)

    def project_delta(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        length = self.length(delta)
        factor = torch.where(length > self.eps, self.eps / length, torch.ones_like(length))
        return delta * per_example(factor, delta)


@dataclass(frozen=True, kw_only=True)
class L1(Threat):
    """L1 threat: the absolute changes sum to at most eps, so a few values can change much.

    Args:
        spread: fraction of the values that one step changes, at least one value. A single value is the steepest step, but on
            images of thousands of pixels that needs too many steps (Tramer & Boneh 2019, https://arxiv.org/abs/1904.13000,
            change the top 1 %).
    """

    spread: Probability = 0.01

    norm, power = "l1", 1

    def diameter(self, features: int) -> float:
        return float(self._range_width().mean()) * features

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().sum(1)

    def direction(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        if at is not None:
            at_edge = ((at <= self.lower) & (gradient < 0)) | ((at >= self.upper) & (gradient > 0))
            gradient = gradient.masked_fill(at_edge, 0)
        flat = gradient.flatten(1)
        top = flat.abs().topk(max(1, round(self.spread * flat.shape[1])), dim=1).indices
        signs = flat.gather(1, top).sign()
        step = torch.zeros_like(flat).scatter(1, top, signs / signs.abs().sum(1, keepdim=True).clamp_min(1))
        return step.view_as(gradient)

    def uniform(self, x: Tensor) -> Tensor:
        # The first n of n + 1 exponential variables, divided by their sum, are uniform in the simplex.
        parts = -torch.rand(len(x), x[0].numel() + 1, device=x.device, dtype=x.dtype).clamp_min(1e-30).log()
        sizes = (parts / parts.sum(1, keepdim=True))[:, :-1].view_as(x)
        return self.eps * sizes * (torch.randint(2, x.shape, device=x.device) * 2 - 1)

    def project_delta(self, delta: Tensor, x: Tensor | None = None) -> Tensor:
        """Project onto the intersection of ball and valid range; clipping after projecting would waste part of eps.

        Croce & Hein 2021 (https://arxiv.org/abs/2103.01208), proposition 2.1: every value moves towards 0 by the same amount t
        and is clamped to its room, the distance to the end of the valid range but at most |d|, with t such that the sum of
        clamp(|d| - t, 0, room) is eps. The sum is piecewise linear in t, and t is found by sorting its breakpoints.
        """
        size = delta.abs().flatten(1)
        room = size
        if x is not None:
            # No value needs more room than its size, so an infinite range adds no constraint.
            room = torch.where(delta > 0, self.upper - x, x - self.lower).clamp_min(0).flatten(1).minimum(size)
        breakpoints, order = torch.cat([size, size - room], 1).sort(dim=1, descending=True)
        slope = torch.where(order < size.shape[1], 1.0, -1.0).to(size.dtype).cumsum(1)
        sums = (slope[:, :-1] * -breakpoints.diff(dim=1)).cumsum(1)
        before = (sums < self.eps).sum(1, keepdim=True).clamp_max(sums.shape[1] - 1)
        t = breakpoints.gather(1, before + 1) + (sums.gather(1, before) - self.eps) / slope.gather(1, before).clamp_min(1)
        shrunk = torch.minimum((size - t.clamp_min(0)).clamp_min(0), room)
        projected = torch.where(room.sum(1, keepdim=True) <= self.eps, room, shrunk)
        return projected.view_as(delta) * delta.sign()
