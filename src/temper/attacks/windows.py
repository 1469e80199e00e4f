"""What Square tries: changes inside random windows, drawn for many queries at once and the same for all examples."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from temper.attacks.threat import Threat

TINY = 1e-12  # no division by 0


class Changes(Protocol):
    """Changes for a number of queries."""

    def apply(self, query: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """The points that are tried next, (m, C, S).

        Args:
            query: which of the changes, (m,) int64.
            x: the best points so far, (m, C, S): C channels of S pixels; inputs of another layout have a single channel.
            z: the inputs themselves, (m, C, S).
        """

    def useful(self, x: Tensor, z: Tensor) -> Tensor:
        """Which changes move these points, (n, C, S), more than rounding would: (count, n) bool."""


def draw(threat: Threat, z: Tensor, share: float, count: int) -> Changes:
    """Changes for `count` queries, each to about this share of inputs like z, (n, ...)."""
    return Flips.draw(threat, z, share, count) if threat.norm == "linf" else Moves.draw(threat, z, share, count)


@dataclass
class Flips:
    """For linf: every value in the window goes to one end of what it may be, each channel of an image to the same end.

    Attributes:
        change: of the values, (count, C, S); 0 outside of the window.
    """

    threat: Threat
    change: Tensor

    @classmethod
    def draw(cls, threat: Threat, z: Tensor, share: float, count: int) -> "Flips":
        window = _windows(z, _side(z, share), share, count).inside
        return cls(threat, 2 * threat.eps * signs((count, z.shape[1], 1) if z.ndim == 4 else window.shape, z) * window)

    def apply(self, query: Tensor, x: Tensor, z: Tensor) -> Tensor:
        return self.threat.project(x + self.change[query], z)

    def useful(self, x: Tensor, z: Tensor) -> Tensor:
        # How many values a change would move, those left out that are at their end already.
        ends = (self.threat.project(z + end, z) for end in (self.threat.eps, -self.threat.eps))
        rises, falls = (((end - x).abs() > 1e-4 * self.threat.eps).to(x.dtype).flatten(1) for end in ends)
        change = self.change.flatten(1)
        return (change > 0).to(x.dtype) @ rises.T + (change < 0).to(x.dtype) @ falls.T > 0


@dataclass
class Moves:
    """For l2 and l1: the first window takes over the budget of the second one, and gets two bumps added to what stands there.

    Andriushchenko et al. 2020, algorithm 3; for l1 with sums of absolute values where the paper has squares.

    Attributes:
        first: the first window, (count, 1, S), 1 inside and 0 outside.
        either: both windows.
        bumps: of length 1 in each channel, (count, C, S); 0 outside of the first window.
    """

    threat: Threat
    first: Tensor
    either: Tensor
    bumps: Tensor

    @classmethod
    def draw(cls, threat: Threat, z: Tensor, share: float, count: int) -> "Moves":
        side = _side(z, share)
        if z.ndim == 4:  # The two bumps of a window want an odd side of 3 at least.
            side = min(max(side, 3) // 2 * 2 + 1, *z.shape[2:])
        first, second = (_windows(z, side, share, count) for _ in range(2))
        if z.ndim == 4:
            bumps = signs((count, z.shape[1], 1), z) * first.patterns(_bumps(side, z))
        else:
            bumps = torch.randn(first.inside.shape, device=z.device, dtype=z.dtype) * first.inside
        moves = cls(threat, first.inside, torch.maximum(first.inside, second.inside), bumps)
        moves.bumps = moves._unit(bumps)
        return moves

    def apply(self, query: Tensor, x: Tensor, z: Tensor) -> Tensor:
        delta, either, power = x - z, self.either[query], self._power
        taken, whole = self._length(delta * either), delta.flatten(1).norm(power, dim=1)[:, None, None]
        unused = (self.threat.eps**power - whole**power).clamp_min(0)
        size = (taken**power + unused / delta.shape[1]) ** (1 / power)
        new = self._unit(self._unit(delta * self.first[query]) + self.bumps[query])
        return self.threat.project(z + delta * (1 - either) + new * size, z)

    def useful(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.ones(len(self.first), len(x), dtype=torch.bool, device=x.device)

    @property
    def _power(self) -> int:
        return {"l1": 1, "l2": 2}[self.threat.norm]

    def _length(self, delta: Tensor) -> Tensor:
        return delta.norm(self._power, dim=2, keepdim=True)

    def _unit(self, delta: Tensor) -> Tensor:
        return delta / self._length(delta).clamp_min(TINY)


@dataclass
class _Windows:
    """Windows for a number of queries.

    Attributes:
        inside: 1 inside and 0 outside, (count, 1, S).
        row, column: of each pixel, counted from the window's corner, (count, H, 1) and (count, 1, W); of images alone.
    """

    inside: Tensor
    row: Tensor
    column: Tensor

    def patterns(self, pattern: Tensor) -> Tensor:
        """A square pattern, (side, side), in every window, turned by 90 degrees in every other one at random, (count, 1, S)."""
        row, column = (place.clamp(0, len(pattern) - 1) for place in (self.row, self.column))
        turned = torch.randint(2, (len(row), 1, 1), device=row.device)
        return torch.stack([pattern, pattern.T])[turned, row, column].flatten(1)[:, None] * self.inside


def _windows(z: Tensor, side: int, share: float, count: int) -> _Windows:
    """A square over all channels of an image, else a random set of features."""
    if z.ndim == 4:
        row, column = (
            torch.arange(size, device=z.device) - torch.randint(size - side + 1, (count, 1), device=z.device)
            for size in z.shape[2:]
        )
        row, column = row[:, :, None], column[:, None, :]
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    else:
        row = column = torch.empty(0)
        features = z[0].numel()
        order = torch.rand(count, features, device=z.device).argsort(dim=1).argsort(dim=1)
        inside = order < max(round(share * features), 1)
    return _Windows(inside.flatten(1)[:, None].to(z.dtype), row, column)


def _side(z: Tensor, share: float) -> int:
    """Of a square of this share of an image."""
    return min(max(round(math.sqrt(share * z[0, 0].numel())), 1), *z.shape[2:]) if z.ndim == 4 else 0


def _bumps(side: int, z: Tensor) -> Tensor:
    """Two bumps of opposite sign side by side, (side, side): each falls off in rings from its middle, the paper's eq. 3."""
    half = side // 2
    rings = (torch.arange(1, half + 2, device=z.device, dtype=z.dtype) ** -2).flip(0).cumsum(0).flip(0)
    line = torch.arange(side, device=z.device)
    parts = []
    for width in (half, side - half):
        across = (torch.arange(width, device=z.device) - width // 2).abs()
        parts.append(rings[torch.maximum(across[:, None], (line - half).abs()).clamp_max(half)])
    return torch.cat([parts[0], -parts[1]])


def signs(shape: tuple[int, ...], z: Tensor) -> Tensor:
    """1 or -1 at random."""
    return torch.randint(2, tuple(shape), device=z.device, dtype=z.dtype) * 2 - 1
