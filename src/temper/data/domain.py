"""Valid values of the features of a table: ranges, integers and categories."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Valid rows (B, F) of a table whose feature values are (original - center) / scale.

    A category is one-hot encoded in a group of adjacent features. All of them are 0 in a row whose category does not occur in
    the training split.

    Attributes:
        lower: Smallest value of each feature, (F,) in the precision of the inputs.
        upper: Largest value of each feature, (F,) in the precision of the inputs.
        center: Offset of each feature, (F,) float64.
        scale: Scale of each feature, (F,) float64.
        integer: Features that are integers before scaling, (F,) bool. None means no feature.
        groups: Range of features of each category, as (first, last + 1).
    """

    lower: Tensor
    upper: Tensor
    center: Tensor
    scale: Tensor
    integer: Tensor | None = None
    groups: tuple[tuple[int, int], ...] = ()

    def to(self, device: torch.device | str) -> "Domain":
        """Return this domain on another device."""
        parts = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return Domain(**parts, groups=self.groups)

    @property
    def discrete(self) -> bool:
        """True if a row has integers or categories."""
        return self.integer is not None or bool(self.groups)

    def encode(self, original: Tensor) -> Tensor:
        """Return the feature values of original values (..., F) float64, clamped to their range, in the inputs' precision."""
        return ((original - self.center) / self.scale).to(self.lower.dtype).clamp(self.lower, self.upper)

    def decode(self, x: Tensor) -> Tensor:
        """Return the original values of feature values (..., F), in float64. Integers are exact."""
        original = x.double() * self.scale + self.center
        return original if self.integer is None else torch.where(self.integer, original.round(), original)

    def round_towards(self, x: Tensor, z: Tensor) -> Tensor:
        """Round the integer features of z to integers that are no further from x than z is.

        Args:
            x: Feature values to round towards, (..., F).
            z: Feature values to round, (..., F).

        Returns:
            Feature values (..., F); those of other features are unchanged.
        """
        if self.integer is None:
            return z
        nearest, start, origin = self.decode(z), self.decode(x), x.double()
        rounded = x
        for back in (1, 0):
            candidate = self.encode(nearest - back * (nearest - start).sign())
            near = (candidate.double() - origin).abs() <= (z.double() - origin).abs()
            rounded = torch.where(near, candidate, rounded)
        return torch.where(self.integer, rounded, z)

    def category_change(self, x: Tensor, z: Tensor, group: tuple[int, int]) -> Tensor:
        """Return the change that moves one category of x to the one where z is largest.

        Args:
            x: Feature values of valid rows, (..., F).
            z: Feature values that pick the new category, (..., F).
            group: Range of features of the category, one of `groups`.

        Returns:
            Differences to x, (..., F); 0 outside the group, and where x has none of its categories.
        """
        current, scores = (part[..., slice(*group)] for part in (x, z))
        highest = scores.amax(-1, keepdim=True)
        changes = (highest > (scores * current).sum(-1, keepdim=True)) & (current.amax(-1, keepdim=True) == 1)
        new = torch.zeros_like(current).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)
        change = torch.zeros_like(x)
        change[..., slice(*group)] = torch.where(changes, new - current, 0.0)
        return change

    @property
    def categorical(self) -> Tensor:
        """Mask of the features that encode a category, (F,) bool."""
        within = torch.zeros_like(self.lower, dtype=torch.bool)
        for group in self.groups:
            within[slice(*group)] = True
        return within
