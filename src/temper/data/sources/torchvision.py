"""Data sets of torchvision."""

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

Checksums = dict[str, str | None]  # MD5 of files by their path below a folder; None if unknown


class TorchVision:
    """A data set of torchvision, downloaded into `root` on first use.

    Args:
        name: Name of its class in `torchvision.datasets`.
        root: Folder of the files. An archive that it already has is unpacked instead of downloaded.
        download: Download missing files.

    Raises:
        DataError: On `load`: a file is missing and cannot be downloaded, or is damaged.
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
        if self._is_missing(files):
            if not self.download:
                raise self._not_found_error("and data.source.download is false")
            with atomic_download(self.root, self.name) as folder:
                if self._is_missing(files):  # another process may have been faster
                    self._fetch(folder, archives)
        try:
            train, test = (self._open(self.root, split, download=False) for split in ("train", "test"))
        except Exception as error:  # a damaged file can raise anything in torchvision
            raise self._damaged_error(files, error) from error
        return Arrays(*_tensors(train), *_tensors(test))

    def _is_missing(self, files: Checksums) -> bool:
        return not all((self.root / name).is_file() for name in files)

    def _open(self, root: Path, split: str, *, download: bool) -> Any:
        selection: dict[str, Any] = {"split": split} if self.name == "SVHN" else {"train": split == "train"}
        return self.dataset(root, download=download, **selection)

    def _fetch(self, folder: Path, archives: Checksums) -> None:
        for name, md5 in archives.items():
            if (existing := self.root / name).is_file():
                if not check_integrity(existing, md5):
                    raise DataError(f"{existing} is damaged: its MD5 is not {md5}. Delete it to download it again.")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(existing)
        try:
            for split in ("train", "test"):
                self._open(folder, split, download=True)
        except (RuntimeError, OSError, HTTPException) as error:
            raise self._not_found_error(f"and the download failed ({' '.join(str(error).split())})") from None

    def _not_found_error(self, why: str) -> DataError:
        return DataError(
            f"{self.name} was not found in {self.root}, {why}. Put its files there in torchvision's layout, or set "
            "paths.data=FOLDER."
        )

    def _damaged_error(self, files: Checksums, error: Exception) -> DataError:
        broken = [self.root / name for name, md5 in files.items() if not _is_intact(self.root / name, md5)]
        problem = f"{broken[0]} is damaged" if broken else f"{self.name} in {self.root} cannot be read ({error})"
        return DataError(f"{problem}. Delete it to download it again, or restore the file.")


def _layout(dataset: Any) -> tuple[Checksums, Checksums]:
    """Return the archives that torchvision downloads, and the files that it reads."""
    if hasattr(dataset, "resources"):  # MNIST and its drop-in replacements
        raw = f"{dataset.__name__}/raw"
        archives = {f"{raw}/{name}": md5 for name, md5 in dataset.resources}
        return archives, {name.removesuffix(".gz"): None for name in archives}
    if hasattr(dataset, "split_list"):  # one file per split
        files = {name: md5 for split, (_, name, md5) in dataset.split_list.items() if split in ("train", "test")}
        return files, files
    listed = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    return {dataset.filename: dataset.tgz_md5}, {f"{dataset.base_folder}/{name}": md5 for name, md5 in listed}


def _is_intact(path: Path, md5: str | None) -> bool:
    if md5 is not None:
        return bool(check_integrity(path, md5))
    try:
        read_sn3_pascalvincent_tensor(path)
    except Exception:
        return False
    return True


def _tensors(dataset: Any) -> tuple[Tensor, Tensor]:
    """Return uint8 images (N, C, H, W) and int64 labels (N,) of a torchvision data set that keeps its data in memory."""
    images = torch.as_tensor(dataset.data)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return images.contiguous(), torch.as_tensor(labels, dtype=torch.int64)
