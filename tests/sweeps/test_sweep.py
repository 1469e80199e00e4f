"""Grid sweeps: planned cells, failed runs, resuming after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from temper.runs.lock import was_interrupted
from temper.runs.record import RECORD, RunRecord
from tests.conftest import QUICK, alive

Temper = Callable[..., tuple[int, str]]
GRID = ("attack=none,pgd", "penalty=none,l2", "study=grid", "-m", *QUICK)


def runs(study: str = "grid") -> list[Path]:
    return sorted(Path("outputs", study).glob("*/seed-*"))


def test_a_grid_runs_and_reports_once(temper: Temper) -> None:
    status, output = temper("train", *GRID, "seed=0,1")
    assert status == 0, output
    assert len(runs()) == 8 and "[8/8]" in output and "report: results/grid" in output
    for name in ("runs.csv", "table.md", "table.tex", "tradeoff.png", "tradeoff.pdf", "curves.png"):
        assert Path("results/grid", name).stat().st_size > 0
    kinds = {RunRecord.read(folder).kind for folder in runs()}
    assert kinds == {"standard", "adversarial", "regularized", "combined"}
    stamps = [(folder / RECORD).stat().st_mtime_ns for folder in runs()]
    status, output = temper("train", *GRID, "seed=0,1,2", "dry_run=true")
    assert status == 0 and "12 runs, 8 done, 4 to run" in output and "left" in output
    status, output = temper("train", *GRID, "seed=0,1")
    assert status == 0 and "8 done, 0 to run" in output
    assert stamps == [(folder / RECORD).stat().st_mtime_ns for folder in runs()]


def test_equivalent_overrides_are_one_run(temper: Temper) -> None:
    status, output = temper("train", "penalty=[l1,l2],[l2,l1],[l2,none,l1]", "study=grid", "-m", *QUICK, "dry_run=true")
    assert status == 0 and "1 cells, 1 runs" in output


def test_an_experiment_is_a_sweep_and_its_axes_can_be_overridden(temper: Temper) -> None:
    status, output = temper("train", "experiment=comparison", "dry_run=true")
    assert status == 0 and "12 cells, 60 runs, 0 done, 60 to run" in output
    status, output = temper("train", "experiment=comparison", "seed=7", "attack=trades", "dry_run=true")
    assert status == 0 and "6 cells, 6 runs" in output and "trades+batch_norm" in output
    assert not Path("outputs/comparison").exists() or not runs("comparison")


def test_runs_on_several_data_sets_show_the_name_of_the_data_set(temper: Temper) -> None:
    quick = ("trainer.max_epochs=1", "evaluation=quick", "data.train_size=200", "data.test_size=60")
    grid = ("data=digits,breast_cancer", "model=mlp", "model.hidden=[8]", "study=grid", "-m", *quick)
    status, output = temper("train", *grid, "dry_run=true")
    assert status == 0 and "Digits: none+none-" in output and "BreastCancer: none+none-" in output, output
    status, output = temper("train", *grid)
    assert status == 0 and "Digits: none x none, seed 0: clean" in output, output
    assert "BreastCancer: none x none, seed 0: clean" in output


def test_a_failed_cell_stops_no_other_and_is_reported(temper: Temper) -> None:
    status, output = temper("train", "optimizer.lr=1e30,0.1", "study=grid", "-m", *QUICK)
    assert status == 1 and "failed: outputs/grid/" in output and "diverged" in output
    assert sorted(RunRecord.read(folder).status for folder in runs()) == ["failed", "finished"]
    assert "report: results/grid" in output
    assert "diverged" in Path("results/grid/table.md").read_text(), "the table lists a failed run"


def test_nothing_is_started_if_a_cell_is_invalid(temper: Temper) -> None:
    status, output = temper("train", "attack=pgd", "attack.steps=3,0,-1", "study=grid", "-m", *QUICK)
    assert status == 1 and "attack.steps=0: should be" in output and "attack.steps=-1: should be" in output
    assert not Path("outputs/grid").exists()


def test_stale_runs_are_an_error_until_the_user_decides(temper: Temper) -> None:
    temper("train", "study=grid", "-m", "seed=0,1", *QUICK)
    path = runs()[0] / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "yesterday"}))
    status, output = temper("train", "study=grid", "-m", "seed=0,1", *QUICK)
    assert status == 1 and "stale=ask: 1 of 2 runs were finished by different code" in output
    status, output = temper("train", "study=grid", "-m", "seed=0,1", *QUICK, "stale=keep")
    assert status == 0 and "2 done, 0 to run" in output
    status, output = temper("train", "study=grid", "-m", "seed=0,1", *QUICK, "stale=rerun")
    assert status == 0 and RunRecord.read(runs()[0]).code != "yesterday"


def test_nothing_is_started_if_a_seed_is_invalid(temper: Temper) -> None:
    status, output = temper("train", "seed=0,one", "study=grid", "-m", *QUICK)
    assert status == 1 and "seed=one: should be a whole number" in output and not Path("outputs/grid").exists()


def test_several_suites_and_radii_can_be_axes(temper: Temper) -> None:
    settings = [setting for setting in QUICK if not setting.startswith("evaluation=")]
    status, output = temper("train", "evaluation=quick,standard", "study=suites", "-m", *settings)
    assert status == 0 and "2 runs, 0 done, 2 to run" in output, output
    (folder,) = runs("suites")
    assert len(RunRecord.read(folder).evaluations) == 2
    status, output = temper("train", "data.threats.linf.eps=0.1,0.2", "study=radii", "-m", *QUICK)
    assert status == 0 and len(runs("radii")) == 2
    text = Path("results/radii/table.md").read_text()
    assert "eps=0.1)" in text and "eps=0.2)" in text


def test_a_kept_stale_run_is_evaluated_by_a_new_suite(temper: Temper) -> None:
    temper("train", "study=grid", "-m", *QUICK)
    path = runs()[0] / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "yesterday"}))
    more = "evaluation.attacks.pgd.steps=3"
    status, output = temper("train", "study=grid", "-m", *QUICK, more, "stale=keep")
    assert status == 0 and "1 to run" in output and len(RunRecord.read(runs()[0]).evaluations) == 2


def test_a_single_checkpoint_can_be_evaluated_and_reported(temper: Temper) -> None:
    status, output = temper("train", "study=grid", "-m", *QUICK, "evaluation.checkpoints=[best]")
    assert status == 0 and "report: results/grid" in output, output


def test_a_sweep_over_strength_has_one_cell_without_penalties(temper: Temper) -> None:
    settings = ("penalty=none,l2", "strength=0.1,10", "study=grid", "-m", *QUICK)
    status, output = temper("train", *settings)
    assert status == 0 and "3 runs, 0 done, 3 to run" in output and "warning" not in output, output
    assert len(runs()) == 3 and "none x l2, strength 0.1, seed 0: clean" in output
    table = Path("results/grid/table.md").read_text()
    assert table.index("l2 (strength=0.1)") < table.index("l2 (strength=10)")
    assert Path("results/grid/strength.png").stat().st_size > 10_000


def test_a_sweep_without_evaluation_is_finished_and_can_be_evaluated_later(temper: Temper) -> None:
    status, output = temper("train", "study=grid", "-m", *QUICK, "evaluation.checkpoints=[]")
    assert status == 0 and "was evaluated on the test set. No report" in output and "val/clean" in output, output
    status, output = temper("train", "study=grid", "-m", *QUICK, "evaluation.checkpoints=[]")
    assert status == 0 and "1 done, 0 to run" in output
    status, output = temper("train", "study=grid", "-m", *QUICK)
    assert status == 0 and "1 to run" in output and "report: results/grid" in output, output
    status, output = temper("evaluate", f"path={runs()[0]}", "evaluation=quick", "evaluation.checkpoints=[]")
    assert status == 1 and "evaluation.checkpoints=[]: no checkpoint is selected" in output


def test_an_axis_of_dicts_is_planned_and_run_alike(temper: Temper) -> None:
    weights = "penalty.elastic_net={l1:{weight:0.01}},{l2:{weight:0.01}}"
    status, output = temper("train", "study=grid", "penalty=elastic_net", weights, "-m", *QUICK)
    assert status == 0 and len(runs()) == 2, output


def test_seeds_that_change_the_cell_give_separate_cells(temper: Temper) -> None:
    status, output = temper("train", "study=grid", "seed=0,1,0", "data.split_seed=${seed}", "-m", *QUICK)
    assert status == 0 and len({run.parent for run in runs()}) == 2, output


def test_a_study_must_be_a_plain_name(temper: Temper) -> None:
    for study in ("../up", "a/b", ".hidden"):
        status, output = temper("train", f"study={study}", *QUICK)
        assert status == 1 and "should be a plain name" in output


def test_a_sweep_runs_without_git(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = subprocess.run(command("study=grid", "-m", "dry_run=true", *QUICK), capture_output=True, text=True)
    assert done.returncode == 0 and "1 to run" in done.stdout, done.stdout + done.stderr


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "temper.cli.train", *sorted(arguments, key=lambda argument: argument != "-m")]


def comparable(study: str) -> tuple[pd.DataFrame, str]:
    """Return all metrics and tables of a study that do not depend on time or memory."""
    data = pd.read_csv(f"results/{study}/runs.csv").drop(columns="study")
    data = data[~data.metric.isin(["cost/seconds", "cost/wall_seconds", "cost/peak_memory"])]
    table = Path(f"results/{study}/table.md").read_text().partition("## Accuracy")[2].partition("## Training cost")[0]
    return data.reset_index(drop=True), table


@pytest.mark.slow
def test_a_killed_sweep_resumes_to_the_same_table(temper: Temper, tmp_path: Path) -> None:
    """SIGKILL ends the whole process group with joblib's workers; the same command resumes."""
    settings = ("attack=none,pgd", "penalty=none,dropout", "-m", *QUICK, "trainer.max_epochs=4")
    subprocess.run(command("study=uninterrupted", *settings), check=True, capture_output=True)
    process = subprocess.Popen(command("study=killed", *settings), start_new_session=True, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(Path("outputs/killed").glob(f"*/seed-*/{RECORD}")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(Path("outputs/killed").glob(f"*/seed-*/{RECORD}")))
    assert 0 < done < 4
    again = subprocess.run(command("study=killed", *settings), capture_output=True, text=True)
    assert again.returncode == 0 and f"{done} done, {4 - done} to run" in again.stdout, again.stdout + again.stderr
    numbers, table = comparable("uninterrupted")
    numbers_again, table_again = comparable("killed")
    pd.testing.assert_frame_equal(numbers, numbers_again, check_exact=True)
    assert table == table_again


def workers(sweep: int) -> list[int]:
    """Return the ids of the processes in which joblib runs the jobs of a sweep."""
    output = subprocess.run(["pgrep", "-P", str(sweep), "-f", "loky.backend.popen"], capture_output=True, text=True)
    return [int(process) for process in output.stdout.split()]


@pytest.mark.slow
def test_a_killed_worker_loses_no_run(temper: Temper) -> None:
    settings = ("seed=0,1,2,3", "-m", *QUICK, "trainer.max_epochs=30", "study=grid", "hydra.launcher.n_jobs=2")
    process = subprocess.Popen(command(*settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 300
    while not list(Path("outputs/grid").glob("*/seed-*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "the launcher stopped" in output, output
    assert all(RunRecord.read(folder).finished for folder in runs()) and len(runs()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_exit_with_their_sweep(how: signal.Signals, temper: Temper) -> None:
    settings = ("seed=0,1,2,3", "-m", *QUICK, "trainer.max_epochs=2000", "study=grid", "hydra.launcher.n_jobs=2")
    process = subprocess.Popen(command(*settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list(Path("outputs/grid").glob("*/seed-*/checkpoints/last.ckpt"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    left = workers(process.pid)
    assert len(left) == 2
    process.send_signal(how)
    process.wait()
    deadline = time.monotonic() + 60
    while (left := [worker for worker in left if Path(f"/proc/{worker}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive("-p", ",".join(map(str, left))), left
    # A zombie that is not reaped keeps its process id, and with it its lock.
    assert left or all(
        was_interrupted(folder) for folder in Path("outputs/grid").glob("*/seed-*") if (folder / "checkpoints").exists()
    )


@pytest.mark.slow
def test_a_keyboard_interrupt_ends_a_sweep_without_a_traceback(temper: Temper) -> None:
    process = subprocess.Popen(
        command("study=grid", "seed=0,1,2,3", "-m", *QUICK, "trainer.max_epochs=200"),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in background processes
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(Path("outputs/grid").glob("*/seed-*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0 and "Run the same command again to resume" in output, output
    assert "Traceback" not in output, output


@pytest.mark.slow
def test_smoke_experiment(temper: Temper) -> None:
    done = subprocess.run(command("experiment=smoke"), capture_output=True, text=True)
    assert done.returncode == 0 and len(runs("smoke")) == 4, done.stdout + done.stderr
    assert "report: results/smoke" in done.stdout
