"""Loggers, read back from the files that they write."""

from collections.abc import Callable
from pathlib import Path

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
    """One process, four jobs, one of which fails: four finished offline runs, the failed one with its exit code."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    status, output = temper("train", "logger=[csv,wandb]", "optimizer.lr=0.1,1e30", "seed=0,1", "study=grid", "-m", *QUICK)
    assert status == 1, output
    files = sorted(Path("outputs/grid").rglob("*.wandb"))
    assert len(files) == 4
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    exits, groups, clean = [], set(), 0
    for path in files:
        store = DataStore()
        store.open_for_scan(str(path))
        while (data := store.scan_data()) is not None:
            item = wandb_internal_pb2.Record()
            item.ParseFromString(data)
            if item.WhichOneof("record_type") == "exit":
                exits.append(item.exit.exit_code)
            if item.WhichOneof("record_type") == "run":
                groups.add(item.run.run_group)
                assert item.run.job_type == "standard"
            if item.WhichOneof("record_type") == "history":
                clean += any("val/clean" in (entry.key or "/".join(entry.nested_key)) for entry in item.history.item)
    assert sorted(exits) == [0, 0, 1, 1] and len(groups) == 2 and clean >= 4
