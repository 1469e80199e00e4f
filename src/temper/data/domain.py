"""What the features of a table may be: a range for each, whole numbers, categories."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The valid rows (B, F) of a table whose feature values are (original - centre) / scale.

    A category is a group of neighbouring features, 1 for the one that a row has and 0 for the others; a row of a category that
    the training split does not know has none.

    Attributes:
        lower, upper: the range of each feature, (F,) in the precision of the inputs.
        centre, scale: of each feature, (F,) float64.
        whole: which features are integers before they are scaled, (F,) bool; None: none of them.
        groups: first feature of each category and the one behind its last.
    """

    lower: Tensor
    upper: Tensor
    centre: Tensor
    scale: Tensor
    whole: Tensor | None = None
    groups: tuple[tuple[int, int], ...] = ()

    def to(self, device: torch.device | str) -> "Domain":
        """The same on another device."""
        parts = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return Domain(**parts, groups=self.groups)

    @property
    def discrete(self) -> bool:
        """Whether there is more to a row than ranges."""
        return self.whole is not None or bool(self.groups)

    def encode(self, original: Tensor) -> Tensor:
        """Feature values of original ones, (..., F) float64, in the precision of the inputs and clamped to their range."""
        return ((original - self.centre) / self.scale).to(self.lower.dtype).clamp(self.lower, self.upper)

    def decode(self, x: Tensor) -> Tensor:
        """Original values of feature values (..., F), in float64; integers are so exactly."""
        original = x.double() * self.scale + self.centre
        return original if self.whole is None else torch.where(self.whole, original.round(), original)

    def whole_towards(self, x: Tensor, z: Tensor) -> Tensor:
        """z, (..., F), with its integers rounded to ones that are no further from those of x than it was."""
        if self.whole is None:
            return z
        nearest, own, origin = self.decode(z), self.decode(x), x.double()
        rounded = x
        for back in (1, 0):
            integer = self.encode(nearest - back * (nearest - own).sign())
            near = (integer.double() - origin).abs() <= (z.double() - origin).abs()
            rounded = torch.where(near, integer, rounded)
        return torch.where(self.whole, rounded, z)

    def category_towards(self, x: Tensor, z: Tensor, group: tuple[int, int]) -> Tensor:
        """What to add to x, (..., F), to change one of its categories to that where z is largest; 0 where x is of none."""
        own, towards = (part[..., slice(*group)] for part in (x, z))
        most = towards.amax(-1, keepdim=True)
        changes = (most > (towards * own).sum(-1, keepdim=True)) & (own.amax(-1, keepdim=True) == 1)
        other = torch.zeros_like(own).scatter(-1, towards.argmax(-1, keepdim=True), 1.0)
        change = torch.zeros_like(x)
        change[..., slice(*group)] = torch.where(changes, other - own, 0.0)
        return change

    @property
    def categorical(self) -> Tensor:
        """Which features belong to a category, (F,) bool."""
        within = torch.zeros_like(self.lower, dtype=torch.bool)
        for group in self.groups:
            within[slice(*group)] = True
        return within
