"""What Square tries: changes inside random windows, drawn for many queries at once and the same for all examples."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from temper.attacks.threat import Threat

TINY = 1e-12  # no division by 0
POWERS = {"l1": 1, "l2": 2}  # to which a norm adds up over parts


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
        if z.ndim == 4:
            window, shape = Squares.draw(z, _side(z, share), count).inside, (count, z.shape[1], 1)
        else:
            window, shape = _subsets(z, share, count), (count, 1, z[0].numel())
        return cls(threat, 2 * threat.eps * signs(shape, z) * window)

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
        if z.ndim == 4:
            # The bumps want an odd side of 3 at least.
            side = min(max(_side(z, share), 3) // 2 * 2 + 1, *z.shape[2:])
            square, other = (Squares.draw(z, side, count) for _ in range(2))
            first, second = square.inside, other.inside
            bumps = signs((count, z.shape[1], 1), z) * square.filled(_bumps(side, z))
        else:
            first, second = (_subsets(z, share, count) for _ in range(2))
            bumps = torch.randn_like(first) * first
        return cls(threat, first, torch.maximum(first, second), _unit(bumps, POWERS[threat.norm]))

    def apply(self, query: Tensor, x: Tensor, z: Tensor) -> Tensor:
        delta, either, power = x - z, self.either[query], POWERS[self.threat.norm]
        whole = delta.flatten(1).norm(power, dim=1)[:, None, None]
        unused = (self.threat.eps**power - whole**power).clamp_min(0)
        size = ((delta * either).norm(power, dim=2, keepdim=True) ** power + unused / delta.shape[1]) ** (1 / power)
        new = _unit(_unit(delta * self.first[query], power) + self.bumps[query], power)
        return self.threat.project(z + delta * (1 - either) + new * size, z)

    def useful(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.ones(len(self.first), len(x), dtype=torch.bool, device=x.device)


class Squares(NamedTuple):
    """One square in an image for each of a number of queries.

    Attributes:
        row, column: of each pixel, counted from the square's corner, (count, H, 1) and (count, 1, W).
        side: in pixels.
    """

    row: Tensor
    column: Tensor
    side: int

    @classmethod
    def draw(cls, z: Tensor, side: int, count: int) -> "Squares":
        """Each place is as likely as any other."""
        height, width = z.shape[2:]
        top = torch.randint(height - side + 1, (count, 1, 1), device=z.device)
        left = torch.randint(width - side + 1, (count, 1, 1), device=z.device)
        rows, columns = (torch.arange(length, device=z.device) for length in (height, width))
        return cls(rows[:, None] - top, columns - left, side)

    @property
    def inside(self) -> Tensor:
        """1 inside and 0 outside, (count, 1, S)."""
        rows, columns = ((place >= 0) & (place < self.side) for place in (self.row, self.column))
        return (rows & columns).flatten(1)[:, None].float()

    def filled(self, pattern: Tensor) -> Tensor:
        """A pattern, (side, side), in each square and 0 outside, (count, 1, S); turned by 90 degrees in half of them."""
        row, column = (place.clamp(0, self.side - 1) for place in (self.row, self.column))
        turned = torch.randint(2, (len(row), 1, 1), device=row.device)
        return torch.stack([pattern, pattern.T])[turned, row, column].flatten(1)[:, None] * self.inside


def _side(z: Tensor, share: float) -> int:
    """Of a square of this share of an image."""
    return min(max(round(math.sqrt(share * z[0, 0].numel())), 1), *z.shape[2:])


def _subsets(z: Tensor, share: float, count: int) -> Tensor:
    """Random sets of features, 1 inside and 0 outside, (count, 1, S)."""
    order = torch.rand(count, 1, z[0].numel(), device=z.device).argsort(dim=2).argsort(dim=2)
    return (order < max(round(share * order.shape[2]), 1)).float()


def _bumps(side: int, z: Tensor) -> Tensor:
    """Two bumps of opposite sign side by side, (side, side): each falls off in rings from its middle, the paper's eq. 3."""
    half = side // 2
    rings = (torch.arange(1, half + 2, device=z.device) ** -2.0).flip(0).cumsum(0).flip(0)
    along = (torch.arange(side, device=z.device) - half).abs()
    bumps = []
    for width in (half, side - half):
        across = (torch.arange(width, device=z.device) - width // 2).abs()
        bumps.append(rings[torch.maximum(across[:, None], along)])
    return torch.cat([bumps[0], -bumps[1]])


def _unit(delta: Tensor, power: int) -> Tensor:
    """Of length 1 in each channel, (m, C, S); 0 where delta is."""
    return delta / delta.norm(power, dim=2, keepdim=True).clamp_min(TINY)


def signs(shape: tuple[int, ...], z: Tensor) -> Tensor:
    """1 or -1 at random."""
    return torch.randint(2, tuple(shape), device=z.device, dtype=z.dtype) * 2 - 1
