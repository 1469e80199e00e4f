"""Loggers, read back from the files that they write."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temper.records import RunRecord
from temper.resolvers import wandb_offline
from tests.conftest import QUICK

Temper = Callable[..., tuple[int, str]]


def test_offline_unless_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wandb_offline()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert not wandb_offline()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_offline()


def test_tensorboard_shows_curves_and_final_metrics(temper: Temper) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    status, output = temper("train", "logger=[csv,tensorboard]", *QUICK)
    assert status == 0, output
    (folder,) = Path("outputs/default").glob("*/seed-0")
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    record = RunRecord.read(folder)
    logged = [event.value for event in events.Scalars("val/clean")]
    assert logged == pytest.approx(record.curves["val/clean"], rel=1e-6)
    (evaluation,) = record.evaluations.values()
    final = events.Scalars("last/test/clean")[-1].value
    assert final == pytest.approx(evaluation["checkpoints"]["last"]["metrics"]["test/clean"], rel=1e-6)


@pytest.mark.slow
def test_every_run_of_a_sweep_is_a_wandb_run_of_its_own(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, four jobs, two of which fail: four offline runs with their exit codes, read back from their own files."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    status, output = temper("train", "logger=[csv,wandb]", "optimizer.lr=0.1,1e30", "seed=0,1", "study=grid", "-m", *QUICK)
    assert status == 1, output
    files = sorted(Path("outputs/grid").rglob("*.wandb"))
    assert len(files) == 4
    exits = []
    for path in files:
        items = wandb_records(path)
        run = next(item["run"] for item in items if item["type"] == "run")
        folder = path.parents[2]
        record = RunRecord.read(folder)
        assert run["run_group"] == folder.parent.name and run["job_type"] == record.kind == "standard"
        exits.append(next(item["exit"].get("exit_code", 0) for item in items if item["type"] == "exit"))
        assert exits[-1] == (not record.finished)
        if record.finished:
            history = [item["history"]["item"] for item in items if item["type"] == "history"]
            logged = [row["val/clean"] for row in history if "val/clean" in row]
            assert logged == pytest.approx(record.curves["val/clean"])
            (evaluation,) = record.evaluations.values()
            assert history[-1]["last/test/clean"] == pytest.approx(evaluation["checkpoints"]["last"]["metrics"]["test/clean"])
            config = next(item["config"]["update"] for item in items if item["type"] == "config")
            assert config["optimizer"]["lr"] == 0.1 and config["seed"] == record.seed
    assert sorted(exits) == [0, 0, 1, 1]


def wandb_records(path: Path) -> list[dict[str, Any]]:
    """What a run's own file holds, as W&B's own reader prints it."""
    reader = Path(sys.executable).with_name("wandb")
    done = subprocess.run([reader, "leet", "inspect", "--json", path], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
