"""The batch of examples that flows from the data to the loss."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.data.domain import Domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of B examples. It is immutable: to change it, make a new one with `dataclasses.replace`.

    Attributes:
        x: Inputs in their valid range, (B, ...) float. Images are in [0, 1] and are not normalized here.
        y: Hard labels, (B,) int64. Accuracy is measured against them.
        target: Targets of the loss: (B,) int64, or (B, C) probabilities after a label-changing penalty.
        index: Indices of the examples in their split, (B,) int64.
        mask: 1 where an adversary may change the input and 0 elsewhere, broadcastable to `x`. None means everywhere.
        domain: For rows of a table, the valid values of each feature. None means the range of the threat.
        rank_weight: Factor for the mean loss over these examples, so that the average over devices equals the mean over
            the whole batch: the fraction of the batch's examples on this device, times the number of devices.
    """

    x: Tensor
    y: Tensor
    target: Tensor
    index: Tensor
    mask: Tensor | None = None
    domain: Domain | None = None
    rank_weight: float = 1.0

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Batch:
        """Build a batch with hard targets and indices that start at 0."""
        return cls(x=x, y=y, target=y, index=torch.arange(len(y), device=y.device))

    def __len__(self) -> int:
        return len(self.y)

    def probabilities(self, classes: int) -> Tensor:
        """Return the target as probabilities (B, C); hard targets are one-hot encoded.

        Args:
            classes: Number of classes, C.
        """
        return self.target if self.target.is_floating_point() else F.one_hot(self.target, classes).float()

    def select(self, rows: Tensor) -> Batch:
        """Return a batch of the selected examples.

        Args:
            rows: Positions in this batch, (n,) int64.
        """
        # One mask may serve all examples.
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], target=self.target[rows], index=self.index[rows], mask=mask)

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """Return this batch on another device.

        Args:
            device: Device to copy the tensors to.
            non_blocking: Copy asynchronously where possible, as in `torch.Tensor.to`.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device, non_blocking=non_blocking) for name, value in tensors.items()}
        return replace(self, **moved, domain=None if self.domain is None else self.domain.to(device))
