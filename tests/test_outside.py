"""Tests of the README's examples of external attacks, penalties and data, verbatim."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from temper.runs.record import RunRecord
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
QUICK = ("trainer.max_epochs=1", "evaluation=quick", "data.train_size=200", "data.test_size=60", "model.width=4")


def unpack(folder: Path) -> None:
    """Write the README's files; the first line of every fenced block is the file name."""
    for name, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", README, flags=re.S):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "cells"),
    [
        (("attack=corners", "penalty=[l2,centered_logits]"), {("corners", "centered_logits + l2")}),
        (("data=scans", "attack=none,pgd"), {("none", "none"), ("pgd", "none")}),
    ],
)
def test_readme_examples_run(tmp_path: Path, arguments: tuple[str, ...], cells: set[tuple[str, str]]) -> None:
    unpack(tmp_path)
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: generator.integers(0, 256, (400, 1, 28, 28), dtype=np.uint8) for name in ("x_train", "x_test")
    }
    arrays |= {name: np.arange(400) % 4 for name in ("y_train", "y_test")}
    np.savez(tmp_path / "scans.npz", **arrays)
    # The README's data set has no sizes to reduce.
    settings = [setting for setting in QUICK if not (setting.startswith("data.") and "data=scans" in arguments)]
    command = [sys.executable, "-m", "temper.cli.train", "-m", "--config-dir", "my_conf", "hydra/launcher=basic", *arguments]
    environment = os.environ | {"PYTHONPATH": "."}
    result = subprocess.run([*command, *settings], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    records = [RunRecord.read(path.parent) for path in tmp_path.glob("outputs/default/*/seed-0/result.json")]
    assert {(record.attack, record.penalty) for record in records} == cells
