"""Data augmentation: noise, cutout, random crops and flips.

The labels stay the same, and the training attack starts from the augmented inputs.
"""

from dataclasses import replace

import torch
from torch import Tensor

from temper.config.types import NonNegative, Number, Probability, checked
from temper.data.batch import Batch
from temper.penalties.penalty import Penalty, Stage


class Noise(Penalty):
    """Gaussian noise on the inputs.

    x + std * normal, clipped to the valid range (Bishop 1995, https://doi.org/10.1162/neco.1995.7.1.108: for small noise this
    is equivalent to a penalty on input gradients).

    Args:
        std: standard deviation, in units of the inputs.
        lower: lower end of the valid range of an input value.
        upper: upper end of the valid range of an input value.
    """

    stage = Stage.DATA
    magnitude = "std"
    neutral = ("std=0",)

    @checked
    def __init__(self, *, std: NonNegative, lower: Number = 0.0, upper: Number = 1.0) -> None:
        super().__init__()
        if lower >= upper:
            raise ValueError(f"lower: {lower:g} is not below upper={upper:g}. Choose a range that is not empty.")
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
    """Cutout: a square of each image is filled with a constant (DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552).

    The center of the square is uniform in the image, so the square may extend beyond the edge.

    Args:
        share: side of the square as a fraction of the longer side of the image (1/2 in the paper for CIFAR-10, 14 of 32 pixels
            in Rice et al. 2020).
        fill: value of each channel; the mean of the data is normalized to 0.
    """

    stage = Stage.DATA
    magnitude = "share"
    max_magnitude = 0.95
    neutral = ("share=0",)

    @checked
    def __init__(self, *, share: Probability, fill: list[float]) -> None:
        super().__init__()
        self.share, self.fill = share, fill

    def transform(self, batch: Batch) -> Batch:
        if not self.share:
            return batch
        height, width = image_size(batch.x)
        side = max(1, round(self.share * max(height, width)))
        rows, columns = (random_segments(size, side, len(batch), batch.x.device) for size in (height, width))
        square = rows[:, None, :, None] & columns[:, None, None, :]
        fill = torch.tensor(self.fill).to(batch.x, non_blocking=True).view(1, -1, 1, 1)
        return replace(batch, x=torch.where(square, fill, batch.x))


class CropFlip(Penalty):
    """Random crops and horizontal flips, the usual augmentation of CIFAR-10.

    Each image is shifted by up to `padding` and mirrored with probability `flip`. Pixels from outside the image are 0. The
    root key `strength` does not scale this penalty.

    Args:
        padding: largest shift, as a fraction of the longer side of the image (4 of 32 pixels are 1/8).
        flip: probability of mirroring an image; 0 if mirroring changes the class, as for digits.
    """

    stage = Stage.DATA
    neutral = ("padding=0", "flip=0")

    @checked
    def __init__(self, *, padding: Probability, flip: Probability) -> None:
        super().__init__()
        self.padding, self.flip = padding, flip

    def transform(self, batch: Batch) -> Batch:
        height, width = image_size(batch.x)
        max_shift = round(self.padding * max(height, width))
        if not max_shift and not self.flip:
            return batch
        rows, columns = (_shifted_indices(size, max_shift, batch.x) for size in (height, width))
        flipped = torch.rand(len(batch)) < self.flip
        columns = torch.where(flipped.to(columns.device, non_blocking=True)[:, None], columns.flip(1), columns)
        inside = _in_range(rows, height)[:, None, :, None] & _in_range(columns, width)[:, None, None, :]
        example = torch.arange(len(batch), device=batch.x.device)[:, None, None]
        sources = rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]
        moved = batch.x.permute(0, 2, 3, 1)[example, *sources]
        return replace(batch, x=moved.permute(0, 3, 1, 2).contiguous() * inside)


def check_continuous(x: Tensor) -> None:
    """Raise an error if inputs cannot be changed by small amounts.

    Raises:
        ValueError: the inputs are tokens.
    """
    if not x.is_floating_point():
        raise ValueError(
            "inputs are tokens, which cannot be changed by small amounts. Remove this penalty; attack=noise adds noise to "
            "embeddings."
        )


def image_size(x: Tensor) -> tuple[int, int]:
    """Return the height and width of images, (B, C, H, W).

    Raises:
        ValueError: the inputs are not images.
    """
    if x.ndim != 4:
        raise ValueError(f"inputs of shape {list(x.shape[1:])} are not images (C, H, W). Remove this penalty.")
    return x.shape[2], x.shape[3]


def random_segments(size: int, side: int, count: int, device: torch.device) -> Tensor:
    """Return masks of segments along one edge of an image, each around a uniformly drawn center.

    Args:
        size: length of the edge, in pixels.
        side: length of a segment, in pixels; the part beyond the edge is lost.
        count: number of segments.
        device: device of the masks.

    Returns:
        True within the segment, (count, size).
    """
    # Drawn on the CPU, so all devices get the same numbers; the asynchronous copy does not wait for the device.
    start = torch.randint(size, (count, 1)).to(device, non_blocking=True) - side // 2
    pixels = torch.arange(size, device=device)
    return (pixels >= start) & (pixels < start + side)


def _shifted_indices(size: int, max_shift: int, x: Tensor) -> Tensor:
    """Return the source index of each pixel along one edge under a random shift per example, (B, size) int64."""
    shift = torch.randint(-max_shift, max_shift + 1, (len(x), 1)).to(x.device, non_blocking=True)
    return torch.arange(size, device=x.device) + shift


def _in_range(indices: Tensor, size: int) -> Tensor:
    return (indices >= 0) & (indices < size)
