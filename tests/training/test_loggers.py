"""Tests of loggers, read back from the files that they write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from temper.config.resolvers import wandb_offline
from temper.runs.record import RunRecord
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
