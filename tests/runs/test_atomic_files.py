"""Tests of atomic file writes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from temper.runs.atomic_files import atomic_write, set_aside, write_arrays
from temper.training.checkpoints import AtomicCheckpointIO


def test_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as part:
        part.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as part:
        part.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_full_disk_is_reported_and_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    """Write to /dev/full, which behaves like a full disk."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    (tmp_path / f".last.ckpt.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"last\.ckpt could not be written\. Is the disk full|No space left"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.rand(100_000)}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_arrays(tmp_path / name / "x.npz", {"robust": np.array([True, False])})
    assert (tmp_path / "a/x.npz").read_bytes() == (tmp_path / "b/x.npz").read_bytes()
    assert np.load(tmp_path / "a/x.npz")["robust"].tolist() == [True, False]


def test_set_aside_never_overwrites(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        (tmp_path / "result.json").write_text(text)
        set_aside(tmp_path / "result.json", "damaged")
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["one", "three", "two"]
