"""Image files to one array, each decoded once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from temper.data.sources.interfaces import DataError


def decode(paths: Sequence[Path], shape: Sequence[int], *, resize: bool) -> Tensor:
    """Image files -> (N, C, H, W) uint8 pixels, decoded side by side, each straight into its place.

    Args:
        shape: (C, H, W); one channel is grey, three are colours, and images are converted to them.
        resize: scale an image of another size until it covers H x W, and cut it at the centre.

    Raises:
        DataError: naming a file that is broken, has more than 8 bits a channel, or is of another size and not to be resized.
    """
    images = torch.empty(len(paths), *shape, dtype=torch.uint8)

    def fill(number: int) -> None:
        pixels = torch.from_numpy(_read(paths[number], shape, resize))
        images[number] = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass
    return images


def size_of(path: Path) -> tuple[int, int]:
    """Rows and columns of an image, by its header alone."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:  # whatever a decoder raises
        raise _broken(path, error) from error


def _read(path: Path, shape: Sequence[int], resize: bool) -> np.ndarray:
    channels, rows, columns = shape
    try:
        with Image.open(path) as opened:
            deep = opened.mode.startswith(("I", "F"))
            image = opened.convert("L" if channels == 1 else "RGB")
    except Exception as error:
        raise _broken(path, error) from error
    if deep:
        raise DataError(f"{path} has more than 8 bits a channel, which would be cut off: save the images with 8")
    if image.size != (columns, rows):
        if not resize:
            raise DataError(
                f"{path} has {image.height}x{image.width} pixels and not {rows}x{columns}, as the first image: "
                f"data.source.size={rows} resizes them all, or [rows,columns]"
            )
        image = ImageOps.fit(image, (columns, rows), Image.Resampling.BILINEAR)
    return np.array(image)


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as an image ({str(error) or type(error).__name__}): replace or delete it")
