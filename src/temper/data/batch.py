"""What flows from the data to the loss."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.data.domain import Domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of B examples. Immutable: a change makes a new one (`dataclasses.replace`).

    Attributes:
        x: inputs in their valid range, (B, ...) float; images lie in [0, 1] and are never normalized here.
        y: hard labels, (B,) int64. What accuracy is measured against.
        target: what the loss compares with, (B,) int64, or (B, C) probabilities once a label-changing penalty has acted.
        index: which examples of their split these are, (B,) int64.
        mask: 1 where an adversary may change the input and 0 where not, broadcastable to `x`; None: everywhere.
        domain: of the rows of a table, what each feature may be; None: what the threat says.
        share: of the examples of a step that several devices have among them, times their number: what the mean loss of these
            is multiplied by, so that the mean over devices is that of the whole batch.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    index: Tensor
    mask: Tensor | None = None
    domain: Domain | None = None
    share: float = 1.0

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Batch:
        """A batch with hard targets, numbered from 0."""
        return cls(x=x, y=y, target=y, index=torch.arange(len(y), device=y.device))

    def __len__(self) -> int:
        return len(self.y)

    def probabilities(self, classes: int) -> Tensor:
        """The target as probabilities of so many classes, (B, C), whether it is soft already or not."""
        return self.target if self.target.is_floating_point() else F.one_hot(self.target, classes).float()

    def select(self, rows: Tensor) -> Batch:
        """These examples alone, (n,) int64."""
        # A mask may be one for all examples.
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], target=self.target[rows], index=self.index[rows], mask=mask)

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device, non_blocking=non_blocking) for name, value in tensors.items()}
        return replace(self, **moved, domain=None if self.domain is None else self.domain.to(device))
