"""Tests of torchvision data sets: reading, atomic downloads and damaged files."""

import functools
import gzip
import hashlib
import os
import pickle
import shutil
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from temper.data import DataError, TorchVision
from tests.conftest import real_data

SIZES = {"train": 30, "t10k": 20}
# One download makes two requests per file: torchvision first follows redirects.
ONE_DOWNLOAD = {f"{part}-{content}-ubyte.gz": 2 for part in SIZES for content in ("images-idx3", "labels-idx1")}


def md5(path: Path) -> str:
    """Return the MD5 of a file."""
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """Return the bytes of an array in the format of MNIST."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


class FileServer(NamedTuple):
    """A server of files.

    Attributes:
        folder: Folder of the files.
        url: URL of the folder.
        requested: Names of the files that were requested.
    """

    folder: Path
    url: str
    requested: list[str]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serve an MNIST of fifty images from which torchvision downloads."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    random, resources = np.random.default_rng(0), []
    for part, count in SIZES.items():
        images, labels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10
        for name, array in ((f"{part}-images-idx3-ubyte.gz", images), (f"{part}-labels-idx1-ubyte.gz", labels)):
            (folder / name).write_bytes(gzip.compress(idx(array)))
            resources.append((name, md5(folder / name)))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    requested: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path.rpartition("/")[2])
            time.sleep(0.1)  # so that concurrent downloads overlap
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [url])
        yield FileServer(folder, url, requested)
        server.shutdown()


def mnist(root: Path, **options: Any) -> TorchVision:
    return TorchVision(name="MNIST", root=str(root), **options)


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_missing_files_are_downloaded_once(mirror: FileServer, tmp_path: Path) -> None:
    root = tmp_path / "data"
    x_train, y_train, x_test, y_test = mnist(root).load()
    assert x_train.shape == (30, 1, 28, 28) and y_train.tolist() == [n % 10 for n in range(30)]
    assert x_test.shape == (20, 1, 28, 28) and x_test.dtype == torch.uint8 and y_test.dtype == torch.int64
    assert [path.name for path in root.iterdir()] == ["MNIST"], "no other files remain in the data folder"
    assert Counter(mirror.requested) == ONE_DOWNLOAD
    assert torch.equal(mnist(root).load().x_train, x_train) and Counter(mirror.requested) == ONE_DOWNLOAD


def test_existing_archives_are_unpacked_and_not_downloaded(mirror: FileServer, tmp_path: Path) -> None:
    shutil.copytree(mirror.folder, tmp_path / "data" / "MNIST" / "raw")
    assert len(mnist(tmp_path / "data").load().y_train) == 30 and not mirror.requested


def test_an_archive_with_a_wrong_checksum_raises(mirror: FileServer, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(mirror.folder, tmp_path / "data" / "MNIST" / "raw"))
    archive = raw / "train-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-20])
    before = files_in(tmp_path / "data")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged: its MD5 is not .*Delete it"):
        mnist(tmp_path / "data").load()
    assert files_in(tmp_path / "data") == before


def unreachable(*arguments: object, **options: object) -> None:
    raise URLError("Name or service not known")


def test_downloads_without_a_network_leave_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    for name in ("MNIST", "CIFAR10", "CIFAR100", "SVHN"):
        with pytest.raises(
            DataError, match=rf"{name} was not found in .*the download failed \(.*Name or service.*paths.data=FOLDER"
        ):
            TorchVision(name=name, root=str(tmp_path / "data")).load()
    assert not list((tmp_path / "data").iterdir())


def test_an_interrupted_download_leaves_no_files(mirror: FileServer, tmp_path: Path) -> None:
    """The first files are complete, and one is truncated."""
    last = mirror.folder / "t10k-labels-idx1-ubyte.gz"
    content = last.read_bytes()
    last.write_bytes(content[:-10])
    with pytest.raises(DataError, match=r"MNIST was not found .* the download failed"):
        mnist(tmp_path / "data").load()
    assert not list((tmp_path / "data").iterdir())
    last.write_bytes(content)
    assert len(mnist(tmp_path / "data").load().y_test) == 20


def test_files_of_a_killed_download_are_replaced(mirror: FileServer, tmp_path: Path) -> None:
    part = tmp_path / "data" / ".MNIST.part" / "files" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"the first bytes")
    assert len(mnist(tmp_path / "data").load().y_train) == 30
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["MNIST"]


FETCH = """
import sys
from torchvision.datasets import MNIST
from temper.data import TorchVision

root, mirror, *resources = sys.argv[1:]
MNIST.mirrors, MNIST.resources = [mirror], [tuple(resource.split("=")) for resource in resources]
print(int(TorchVision(name="MNIST", root=root).load().x_train.long().sum()))
"""


@pytest.mark.slow
def test_concurrent_processes_download_the_data_once(mirror: FileServer, tmp_path: Path) -> None:
    resources = [f"{name}={checksum}" for name, checksum in datasets.MNIST.resources]
    command = [sys.executable, "-c", FETCH, str(tmp_path / "data"), mirror.url, *resources]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(3)]
    outputs = [process.communicate(timeout=300)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert Counter(mirror.requested) == ONE_DOWNLOAD, "one process downloads each file"
    assert len({lines[-1] for lines in outputs}) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["MNIST"]


def test_a_data_folder_that_cannot_be_created_raises(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, where a folder should be")
    with pytest.raises(OSError, match="taken"):
        mnist(tmp_path / "taken" / "data").load()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_truncated_file_raises(mirror: FileServer, tmp_path: Path, name: str, kept: int) -> None:
    mnist(tmp_path / "data").load()
    path = tmp_path / "data" / "MNIST" / "raw" / name
    path.write_bytes(path.read_bytes()[: min(kept, path.stat().st_size - 1)])
    with pytest.raises(DataError, match=rf"raw/{name} is damaged\. Delete it"):
        mnist(tmp_path / "data").load()


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a CIFAR-100 of forty images and return its folder."""
    folder = tmp_path / "data" / "cifar-100-python"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, count in (("train", 30), ("test", 10)):
        images = random.integers(0, 256, (count, 3 * 32 * 32), dtype=np.uint8)
        entry = {"data": images, "fine_labels": list(range(count)), "coarse_labels": [0] * count}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(number) for number in range(100)]}))
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", datasets.CIFAR100.meta | {"md5": md5(folder / "meta")})
    return folder


def test_cifar100_has_its_fine_labels(cifar100: Path) -> None:
    arrays = TorchVision(name="CIFAR100", root=str(cifar100.parent), download=False).load()
    assert arrays.y_train.tolist() == list(range(30)) and arrays.x_test.shape == (10, 3, 32, 32)
    data = pickle.loads((cifar100 / "train").read_bytes())["data"]
    assert np.array_equal(arrays.x_train.flatten(1).numpy(), data)


def test_a_truncated_cifar_file_raises(cifar100: Path) -> None:
    (cifar100 / "test").write_bytes((cifar100 / "test").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cifar-100-python/test is damaged\. Delete it"):
        TorchVision(name="CIFAR100", root=str(cifar100.parent)).load()


def test_svhn_has_label_0_and_no_label_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random, splits, images = np.random.default_rng(0), {}, {}
    for split, count in (("train", 30), ("test", 10)):
        images[split] = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        path = tmp_path / f"{split}_32x32.mat"
        savemat(path, {"X": images[split], "y": (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None]})
        splits[split] = ["http://nowhere", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    arrays = TorchVision(name="SVHN", root=str(tmp_path), download=False).load()
    assert arrays.x_train.shape == (30, 3, 32, 32) and arrays.y_train.tolist() == [(n % 10 + 1) % 10 for n in range(30)]
    assert np.array_equal(arrays.x_test.numpy(), images["test"].transpose(3, 2, 0, 1))


@pytest.mark.real_data
def test_a_truncated_real_cifar10_file_raises(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(Path(real_data()) / "cifar-10-batches-py", tmp_path / "cifar-10-batches-py"))
    TorchVision(name="CIFAR10", root=str(tmp_path), download=False).load()
    with (folder / "data_batch_3").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="data_batch_3 is damaged"):
        TorchVision(name="CIFAR10", root=str(tmp_path), download=False).load()
