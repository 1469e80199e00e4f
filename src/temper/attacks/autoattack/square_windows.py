"""Proposals of Square: changes inside random windows, drawn for many queries at once and shared by all examples."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from temper.attacks.threat import Threat

TINY = 1e-12  # avoids division by 0


class Proposals(Protocol):
    """Proposed changes for a number of queries.

    Points have shape (m, C, S): C channels of S pixels; inputs of another layout have a single channel.
    """

    def apply(self, query: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """Return the points to query next, (m, C, S).

        Args:
            query: the change to apply to each point, (m,) int64.
            x: the best points so far, (m, C, S).
            z: the inputs, (m, C, S).
        """

    def effective(self, x: Tensor, z: Tensor) -> Tensor:
        """Return whether each change moves each of the points, (n, C, S), by more than rounding, (count, n) bool."""


def draw_proposals(threat: Threat, z: Tensor, fraction: float, count: int) -> Proposals:
    """Draw the changes of `count` queries, each of about this fraction of inputs like z, (n, ...)."""
    cls = LinfProposals if threat.norm == "linf" else L1L2Proposals
    return cls.draw(threat, z, fraction, count)


@dataclass
class LinfProposals:
    """Changes for linf: every value in the window moves to one end of its range, each channel of an image to the same end.

    Attributes:
        threat: the perturbation set.
        change: change of the values, (count, C, S); 0 outside of the window.
    """

    threat: Threat
    change: Tensor

    @classmethod
    def draw(cls, threat: Threat, z: Tensor, fraction: float, count: int) -> "LinfProposals":
        """Draw `count` random proposals; arguments as in `draw_proposals`."""
        if z.ndim == 4:
            window, shape = SquareWindows.draw(z, _window_side(z, fraction), count).inside, (count, z.shape[1], 1)
        else:
            window, shape = _random_subsets(z, fraction, count), (count, 1, z[0].numel())
        return cls(threat, 2 * threat.eps * random_signs(shape, z) * window)

    def apply(self, query: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return self.threat.project(x + self.change[query], z)

    def effective(self, x: Tensor, z: Tensor) -> Tensor:
        # Count the values that a change would move, without those that are at their end already.
        ends = (self.threat.project(z + end, z) for end in (self.threat.eps, -self.threat.eps))
        can_rise, can_fall = (((end - x).abs() > 1e-4 * self.threat.eps).to(x.dtype).flatten(1) for end in ends)
        change = self.change.flatten(1)
        return (change > 0).to(x.dtype) @ can_rise.T + (change < 0).to(x.dtype) @ can_fall.T > 0


@dataclass
class L1L2Proposals:
    """Changes for l2 and l1: the first window takes over the budget of the second, and two bumps are added to its change.

    Andriushchenko et al. 2020 (https://arxiv.org/abs/1912.00049), algorithm 3; for l1 with sums of absolute values instead of
    squares.

    Attributes:
        threat: the perturbation set.
        first: the first window, (count, 1, S), 1 inside and 0 outside.
        either: both windows, likewise.
        bumps: bumps of length 1 in each channel, (count, C, S); 0 outside of the first window.
    """

    threat: Threat
    first: Tensor
    either: Tensor
    bumps: Tensor

    @classmethod
    def draw(cls, threat: Threat, z: Tensor, fraction: float, count: int) -> "L1L2Proposals":
        """Draw `count` random proposals; arguments as in `draw_proposals`."""
        if z.ndim == 4:
            # The bumps need an odd side of at least 3.
            side = min(max(_window_side(z, fraction), 3) // 2 * 2 + 1, *z.shape[2:])
            window, other = (SquareWindows.draw(z, side, count) for _ in range(2))
            first, second = window.inside, other.inside
            bumps = random_signs((count, z.shape[1], 1), z) * window.fill(_bumps(side, z))
        else:
            first, second = (_random_subsets(z, fraction, count) for _ in range(2))
            bumps = torch.randn_like(first) * first
        return cls(threat, first, torch.maximum(first, second), _normalize(bumps, threat.power))

    def apply(self, query: Tensor, x: Tensor, z: Tensor) -> Tensor:
        delta, either, power = x - z, self.either[query], self.threat.power
        length = delta.flatten(1).norm(power, dim=1)[:, None, None]
        unused = (self.threat.eps**power - length**power).clamp_min(0)
        size = ((delta * either).norm(power, dim=2, keepdim=True) ** power + unused / delta.shape[1]) ** (1 / power)
        new = _normalize(_normalize(delta * self.first[query], power) + self.bumps[query], power)
        return self.threat.project(z + delta * (1 - either) + new * size, z)

    def effective(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.ones(len(self.first), len(x), dtype=torch.bool, device=x.device)


class SquareWindows(NamedTuple):
    """One square window of an image for each of a number of queries.

    Attributes:
        row: row of each pixel relative to the window's corner, (count, H, 1).
        column: column of each pixel relative to the window's corner, (count, 1, W).
        side: side of the windows in pixels.
    """

    row: Tensor
    column: Tensor
    side: int

    @classmethod
    def draw(cls, z: Tensor, side: int, count: int) -> "SquareWindows":
        """Draw windows at uniformly random positions in images like z, (n, C, H, W)."""
        height, width = z.shape[2:]
        top = torch.randint(height - side + 1, (count, 1, 1), device=z.device)
        left = torch.randint(width - side + 1, (count, 1, 1), device=z.device)
        rows, columns = (torch.arange(length, device=z.device) for length in (height, width))
        return cls(rows[:, None] - top, columns - left, side)

    @property
    def inside(self) -> Tensor:
        """1 inside and 0 outside of the windows, (count, 1, S)."""
        rows, columns = ((place >= 0) & (place < self.side) for place in (self.row, self.column))
        return (rows & columns).flatten(1)[:, None].float()

    def fill(self, pattern: Tensor) -> Tensor:
        """Return a pattern, (side, side), in each window and 0 outside, (count, 1, S); half of them turned by 90 degrees."""
        row, column = (place.clamp(0, self.side - 1) for place in (self.row, self.column))
        turned = torch.randint(2, (len(row), 1, 1), device=row.device)
        return torch.stack([pattern, pattern.T])[turned, row, column].flatten(1)[:, None] * self.inside


def _window_side(z: Tensor, fraction: float) -> int:
    """Return the side, in pixels, of a square that covers this fraction of an image."""
    return min(max(round(math.sqrt(fraction * z[0, 0].numel())), 1), *z.shape[2:])


def _random_subsets(z: Tensor, fraction: float, count: int) -> Tensor:
    """Draw random sets of features, 1 inside and 0 outside, (count, 1, S)."""
    order = torch.rand(count, 1, z[0].numel(), device=z.device).argsort(dim=2).argsort(dim=2)
    return (order < max(round(fraction * order.shape[2]), 1)).float()


def _bumps(side: int, z: Tensor) -> Tensor:
    """Return two adjacent bumps of opposite sign, (side, side), which decrease in rings from their centers (eq. 3)."""
    half = side // 2
    rings = (torch.arange(1, half + 2, device=z.device) ** -2.0).flip(0).cumsum(0).flip(0)
    along = (torch.arange(side, device=z.device) - half).abs()
    bumps = []
    for width in (half, side - half):
        across = (torch.arange(width, device=z.device) - width // 2).abs()
        bumps.append(rings[torch.maximum(across[:, None], along)])
    return torch.cat([bumps[0], -bumps[1]])


def _normalize(delta: Tensor, power: float) -> Tensor:
    """Scale each channel to length 1, (m, C, S); a channel of zeros stays 0."""
    return delta / delta.norm(power, dim=2, keepdim=True).clamp_min(TINY)


def random_signs(shape: tuple[int, ...], z: Tensor) -> Tensor:
    """Draw 1 or -1 with equal probability, in z's precision and on its device."""
    return torch.randint(2, tuple(shape), device=z.device, dtype=z.dtype) * 2 - 1
