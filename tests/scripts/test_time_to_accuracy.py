"""Tests of `experiment=fast50` and scripts/benchmarks/time_to_accuracy.py at a tiny scale."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from temper.runs.record import collect
from tests.conftest import REPOSITORY, real_data

Temper = Callable[..., tuple[int, str]]

TOY = (
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=1",
    "model.width=4",
    "model.compile=false",
    "data.train_size=500",
    "data.test_size=50",
    "evaluation=quick",
)


@pytest.mark.slow
@pytest.mark.real_data
def test_experiment_is_valid(temper: Temper) -> None:
    status, output = temper("train", "experiment=fast50", "trainer=cpu", f"paths.data={real_data()}", "dry_run=true")
    assert status == 0 and "to run" in output, output
    assert "warning" not in output


@pytest.mark.slow
@pytest.mark.real_data
def test_experiment_runs_end_to_end(temper: Temper) -> None:
    status, output = temper("train", "experiment=fast50", *TOY, f"paths.data={real_data()}")
    assert status == 0, output
    ((record,), _) = collect(Path("outputs/fast50"))
    assert record.finished and record.weights == "ema" and record.cost["gradient_evaluations"] == 11
    assert record.penalty == "crop_flip + ema + label_smoothing + weight_decay"


@pytest.mark.slow
@pytest.mark.real_data
def test_table_matches_the_records_and_the_script_resumes(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "benchmarks" / "time_to_accuracy.py"
    weak = ("evaluation=autoattack", "evaluation.attacks.autoattack.steps=2", "evaluation.attacks.autoattack.n_queries=5")
    common = (*TOY, *weak, "evaluation.audit=null", "validation.steps=1", f"paths.data={real_data()}")

    def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *arguments, *common]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    first = compare("--candidate", "attack.steps=1 optimizer.lr=0.1")
    assert first.returncode == 0, first.stdout + first.stderr
    ((record,), _) = collect(tmp_path / "outputs/fast50")
    assert record.config["optimizer"]["lr"] == 0.1 and record.config["data"]["test_size"] == 50
    (evaluation,) = record.evaluations.values()
    metrics, (row,) = evaluation["checkpoints"]["last"]["metrics"], rows(first.stdout)
    assert record.cost["seconds"] and record.cost["wall_seconds"]
    assert row[1:] == [
        "attack.steps=1 optimizer.lr=0.1",
        f"{record.cost['seconds']:.1f}",
        f"{record.cost['wall_seconds'] - evaluation['seconds']:.1f}",
        "1",
        "2.0",
        f"{100 * record.curves['val/pgd'][-1]:.1f}",
        *(f"{100 * metrics[f'test/{name}']:.1f}" for name in ("clean", "pgd", "autoattack")),
    ]
    (path,) = tmp_path.rglob("result.json")
    written = path.stat().st_mtime_ns
    again = compare("--candidate", "attack.steps=none", "--candidate", "attack.steps=1 optimizer.lr=0.1")
    assert again.returncode == 1 and "failed: candidate 1" in again.stdout, again.stdout
    assert "already finished" in again.stderr and path.stat().st_mtime_ns == written
    assert [cells[1:] for cells in rows(again.stdout)] == [row[1:]]


def rows(output: str) -> list[list[str]]:
    """Return the cells of a printed table."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line.startswith("│")]
