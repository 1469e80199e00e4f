"""The data sets of torchvision."""

from pathlib import Path

import torch
from torch import Tensor

from temper.arguments import checked
from temper.data.sources.source import Arrays, DataError


class TorchVision:
    """A data set of torchvision by its class name, downloaded into `root` on first use.

    Args:
        name: class in `torchvision.datasets` that takes `(root, train, download)`, such as MNIST or CIFAR10.
        root: folder that holds the files, or will.
        download: fetch the files when they are missing.

    Raises:
        DataError: the files are not there and could not be fetched.
    """

    @checked
    def __init__(self, *, name: str, root: str, download: bool = True) -> None:
        from torchvision import datasets

        if not hasattr(datasets, name):
            raise ValueError(f"name: torchvision.datasets has no {name}")
        self.dataset = getattr(datasets, name)
        self.name, self.root, self.download = name, Path(root).expanduser().resolve(), download

    def load(self) -> Arrays:
        train, test = self._open(train=True), self._open(train=False)
        return Arrays(*_tensors(train), *_tensors(test))

    def _open(self, *, train: bool):  # type: ignore[no-untyped-def]  # torchvision's classes share no typed base
        try:
            return self.dataset(self.root, train=train, download=False)
        except RuntimeError:
            if not self.download:
                raise self._missing("and data.source.download is false") from None
        try:
            return self.dataset(self.root, train=train, download=True)
        except (RuntimeError, OSError) as error:
            raise self._missing(f"and the download failed ({str(error).splitlines()[0]})") from None

    def _missing(self, why: str) -> DataError:
        return DataError(
            f"{self.name} was not found in {self.root}, {why}. Put its files there in torchvision's layout, "
            "or name the folder that holds them: paths.data=FOLDER"
        )


def _tensors(dataset) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """uint8 images as (N, C, H, W) and int64 labels of a torchvision data set that holds its data in memory."""
    images = torch.as_tensor(dataset.data)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return images.contiguous(), torch.as_tensor(dataset.targets, dtype=torch.int64)
