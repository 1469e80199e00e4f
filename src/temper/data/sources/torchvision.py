"""The data sets of torchvision."""

from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
from torchvision.datasets.utils import check_integrity

from temper.config.types import checked
from temper.data.sources.download import atomic_download
from temper.data.sources.interfaces import Arrays, DataError

Checksums = dict[str, str | None]  # md5 of files by their path below a folder; None where none is known


class TorchVision:
    """A data set of torchvision, downloaded into `root` on first use.

    Args:
        name: of its class in `torchvision.datasets`.
        root: folder that holds the files, or will. An archive that lies there already is unpacked and not fetched.
        download: fetch the files when they are missing.

    Raises:
        DataError: a file is not there and could not be fetched, or is damaged.
    """

    @checked
    def __init__(
        self,
        *,
        name: Literal["CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "SVHN", "USPS"],
        root: str,
        download: bool = True,
    ) -> None:
        self.dataset = getattr(datasets, name)
        self.name, self.root, self.download = name, Path(root).expanduser().resolve(), download

    def load(self) -> Arrays:
        archives, files = _layout(self.dataset)
        if self._absent(files):
            if not self.download:
                raise self._missing("and data.source.download is false")
            with atomic_download(self.root, self.name) as folder:
                if self._absent(files):  # another process may have been quicker
                    self._fetch(folder, archives)
        try:
            train, test = (self._open(self.root, split, download=False) for split in ("train", "test"))
        except Exception as error:  # whatever torchvision meets in a file
            raise self._damaged(files, error) from error
        return Arrays(*_tensors(train), *_tensors(test))

    def _absent(self, files: Checksums) -> bool:
        return not all((self.root / name).is_file() for name in files)

    def _open(self, root: Path, split: str, *, download: bool) -> Any:
        which: dict[str, Any] = {"split": split} if self.name == "SVHN" else {"train": split == "train"}
        return self.dataset(root, download=download, **which)

    def _fetch(self, folder: Path, archives: Checksums) -> None:
        for name, md5 in archives.items():
            if (here := self.root / name).is_file():
                if not check_integrity(here, md5):
                    raise DataError(f"{here} is damaged (its md5 should be {md5}): delete it, and it is fetched anew")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(here)
        try:
            for split in ("train", "test"):
                self._open(folder, split, download=True)
        except (RuntimeError, OSError, HTTPException) as error:
            raise self._missing(f"and the download failed ({' '.join(str(error).split())})") from None

    def _missing(self, why: str) -> DataError:
        return DataError(
            f"{self.name} was not found in {self.root}, {why}. Put its files there in torchvision's layout, "
            "or name the folder that holds them: paths.data=FOLDER"
        )

    def _damaged(self, files: Checksums, error: Exception) -> DataError:
        broken = [self.root / name for name, md5 in files.items() if not _is_whole(self.root / name, md5)]
        said = f"{broken[0]} is damaged" if broken else f"{self.name} in {self.root} cannot be read ({error})"
        return DataError(f"{said}: delete it, and it is fetched anew where there is a network; or bring the whole file")


def _layout(dataset: Any) -> tuple[Checksums, Checksums]:
    """The archives that torchvision downloads, and the files that it reads."""
    if hasattr(dataset, "resources"):  # MNIST and what looks like it
        raw = f"{dataset.__name__}/raw"
        archives = {f"{raw}/{name}": md5 for name, md5 in dataset.resources}
        return archives, {name.removesuffix(".gz"): None for name in archives}
    if hasattr(dataset, "split_list"):  # one file a split
        files = {name: md5 for split, (_, name, md5) in dataset.split_list.items() if split in ("train", "test")}
        return files, files
    listed = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    return {dataset.filename: dataset.tgz_md5}, {f"{dataset.base_folder}/{name}": md5 for name, md5 in listed}


def _is_whole(path: Path, md5: str | None) -> bool:
    if md5 is not None:
        return bool(check_integrity(path, md5))
    try:
        read_sn3_pascalvincent_tensor(path)
    except Exception:
        return False
    return True


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    """uint8 images as (N, C, H, W) and int64 labels of a torchvision data set that holds its data in memory."""
    images = torch.as_tensor(dataset.data)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return images.contiguous(), torch.as_tensor(labels, dtype=torch.int64)
