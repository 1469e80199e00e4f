"""Penalties that change the inputs of each example: it is learned under noise, with a part missing, shifted or mirrored.

The attack in training starts from the changed input, and the label stays.
"""

from dataclasses import replace

import torch
from torch import Tensor

from temper.config.types import NonNegative, Number, Probability, checked
from temper.data.batch import Batch
from temper.penalties.penalty import Penalty, Stage


class Noise(Penalty):
    """x + std * normal, cut off at the valid range (Bishop 1995, https://doi.org/10.1162/neco.1995.7.1.108: for small noise the
    same as a penalty on input gradients).

    Args:
        std: in units of the inputs.
        lower, upper: the valid range of every input value.
    """

    stage = Stage.DATA
    magnitude = "std"
    neutral = ("std=0",)

    @checked
    def __init__(self, *, std: NonNegative, lower: Number = 0.0, upper: Number = 1.0) -> None:
        super().__init__()
        if lower >= upper:
            raise ValueError(f"lower ({lower:g}) should be below upper ({upper:g})")
        self.std, self.lower, self.upper = std, lower, upper

    def transform(self, batch: Batch) -> Batch:
        if not self.std:
            return batch
        check_continuous(batch.x)
        noise = self.std * torch.randn_like(batch.x)
        if batch.mask is not None:
            noise = noise * batch.mask
        return replace(batch, x=(batch.x + noise).clamp_(self.lower, self.upper))


class Cutout(Penalty):
    """A square of each image is filled with one value (DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552).

    Its centre is uniform in the image, so that it may reach over the edge.

    Args:
        share: side of the square as a share of the image's longer side (the paper: 1/2 on CIFAR-10, 14 of 32 pixels in Rice et
            al. 2020).
        fill: by channel; the mean of the data is what the network sees as 0.
    """

    stage = Stage.DATA
    magnitude = "share"
    largest = 0.95
    neutral = ("share=0",)

    @checked
    def __init__(self, *, share: Probability, fill: list[float]) -> None:
        super().__init__()
        self.share, self.fill = share, fill

    def transform(self, batch: Batch) -> Batch:
        if not self.share:
            return batch
        rows, columns = image_size(batch.x)
        side = max(1, round(self.share * max(rows, columns)))
        covered = _covers(rows, side, batch.x)[:, None, :, None] & _covers(columns, side, batch.x)[:, None, None, :]
        fill = torch.tensor(self.fill).to(batch.x, non_blocking=True).view(1, -1, 1, 1)
        return replace(batch, x=torch.where(covered, fill, batch.x))


class CropFlip(Penalty):
    """Each image is shifted by up to `padding` and mirrored with probability `flip`: the usual augmentation of CIFAR-10.

    What comes in from outside of the image is 0. The root key `strength` does not scale it.

    Args:
        padding: largest shift, as a share of the image's longer side (4 of 32 pixels are 1/8).
        flip: probability of a mirror image; 0 where that would be another thing, as it is for digits.
    """

    stage = Stage.DATA
    neutral = ("padding=0", "flip=0")

    @checked
    def __init__(self, *, padding: Probability, flip: Probability) -> None:
        super().__init__()
        self.padding, self.flip = padding, flip

    def transform(self, batch: Batch) -> Batch:
        rows, columns = image_size(batch.x)
        most = round(self.padding * max(rows, columns))
        if not most and not self.flip:
            return batch
        row, column = (_positions(size, most, batch.x) for size in (rows, columns))
        mirrored = torch.rand(len(batch)) < self.flip
        column = torch.where(mirrored.to(column.device, non_blocking=True)[:, None], column.flip(1), column)
        inside = _within(row, rows)[:, None, :, None] & _within(column, columns)[:, None, None, :]
        example = torch.arange(len(batch), device=batch.x.device)[:, None, None]
        moved = batch.x.permute(0, 2, 3, 1)[example, row.clamp(0, rows - 1)[:, :, None], column.clamp(0, columns - 1)[:, None]]
        return replace(batch, x=moved.permute(0, 3, 1, 2).contiguous() * inside)


def check_continuous(x: Tensor) -> None:
    """Whether inputs can be changed a little.

    Raises:
        ValueError: they are tokens.
    """
    if not x.is_floating_point():
        raise ValueError("inputs are tokens, between which nothing lies; noise in the space of embeddings is attack=noise")


def image_size(x: Tensor) -> tuple[int, int]:
    """Rows and columns of images, (B, C, H, W).

    Raises:
        ValueError: the inputs are no images.
    """
    if x.ndim != 4:
        raise ValueError(f"inputs of shape {list(x.shape[1:])} are no images (C, H, W)")
    return x.shape[2], x.shape[3]


def _covers(size: int, side: int, x: Tensor) -> Tensor:
    """Which places along one edge a segment around a uniform centre covers, (B, size) bool."""
    # Drawn on the CPU, so that a GPU sees the same; the copy to it waits for nothing.
    start = torch.randint(size, (len(x), 1)).to(x.device, non_blocking=True) - side // 2
    places = torch.arange(size, device=x.device)
    return (places >= start) & (places < start + side)


def _positions(size: int, most: int, x: Tensor) -> Tensor:
    """Where each place along one edge is taken from, shifted by up to `most` either way, (B, size) int64."""
    shift = torch.randint(-most, most + 1, (len(x), 1)).to(x.device, non_blocking=True)
    return torch.arange(size, device=x.device) + shift


def _within(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places < size)
