"""Image files decoded into one array, each file once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from temper.data.sources.interfaces import DataError


def decode_images(paths: Sequence[Path], shape: Sequence[int], *, resize: bool) -> Tensor:
    """Decode image files in parallel, each directly into its row of the result.

    Args:
        paths: N image files.
        shape: Shape (C, H, W) of the result. Images are converted to gray for one channel and to RGB for three.
        resize: Scale images of another size until they cover H x W, and crop them at the center.

    Returns:
        Pixels (N, C, H, W), uint8.

    Raises:
        DataError: A file cannot be decoded, has more than 8 bits per channel, or has another size while `resize` is False.
    """
    images = torch.empty(len(paths), *shape, dtype=torch.uint8)

    def fill(number: int) -> None:
        pixels = torch.from_numpy(_decode_image(paths[number], shape, resize))
        images[number] = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass
    return images


def image_size(path: Path) -> tuple[int, int]:
    """Return the rows and columns of an image, from its header alone.

    Raises:
        DataError: The file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:  # decoders raise many types
        raise _unreadable(path, error) from error


def _decode_image(path: Path, shape: Sequence[int], resize: bool) -> np.ndarray:
    channels, rows, columns = shape
    try:
        with Image.open(path) as opened:
            deep = opened.mode.startswith(("I", "F"))
            image = opened.convert("L" if channels == 1 else "RGB")
    except Exception as error:
        raise _unreadable(path, error) from error
    if deep:
        raise DataError(f"{path}: the image has more than 8 bits per channel, which would be cut off. Save it with 8 bits.")
    if image.size != (columns, rows):
        if not resize:
            raise DataError(
                f"{path}: the image has {image.height}x{image.width} pixels, but the first one has {rows}x{columns}. Resize "
                f"all images with data.source.size={rows} or data.source.size=[rows,columns]."
            )
        image = ImageOps.fit(image, (columns, rows), Image.Resampling.BILINEAR)
    return np.array(image)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as an image ({str(error) or type(error).__name__}). Replace or delete it.")
