"""Tuning: equal budgets for all cells, selection on validation only, then the grid at the selected strengths."""

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temper.config.errors import ConfigError
from temper.runs.record import RECORD, RunRecord
from temper.sweeps.tuning import TuningBudget
from temper.sweeps.tuning_report import TunedCell, tuning_page
from temper.training.modules import build_module
from tests.conftest import QUICK, composed

Temper = Callable[..., tuple[int, str]]
TUNE = ("-m", "study=fair", *QUICK)


def records(study: str) -> list[RunRecord]:
    return [RunRecord.read(path.parent) for path in sorted(Path("outputs", study).glob(f"*/seed-*/{RECORD}"))]


def tune(strength: str, seed: str = "100") -> str:
    return f"hydra.sweeper.tune={{strength:[{strength}],seed:[{seed}]}}"


def best(runs: list[RunRecord], metric: str) -> float:
    """Return the strength with the best mean of a curve's last value."""
    means = {
        strength: statistics.mean(r.curves[metric][-1] for r in runs if r.config["strength"] == strength)
        for strength in sorted({r.config["strength"] for r in runs})
    }
    return max(means, key=lambda strength: means[strength])


@pytest.mark.slow
def test_every_cell_runs_at_the_strength_selected_on_validation(temper: Temper) -> None:
    grid = (*TUNE, "attack=none,pgd", "penalty=none,l1,batch_norm", tune("1,0.01,100", "100,101"), "trainer.max_epochs=4")
    status, output = temper("train", *grid, "dry_run=true")
    assert status == 0 and "6 cells, 12 runs, 0 done, 12 to run" in output and "then the grid: 6 runs" in output, output
    assert not Path("results").exists()

    status, output = temper("train", *grid)
    assert status == 0 and "study fair-tuning: 12 runs" in output and "study fair: 6 runs" in output, output
    trials, runs = records("fair-tuning"), records("fair")
    assert len(trials) == 12 and {run.seed for run in trials} == {100, 101} and {run.seed for run in runs} == {0}
    assert {(run.attack, run.penalty) for run in trials} == {("none", "l1"), ("pgd", "l1")}, "only cells that strength scales"
    for attack, metric in (("none", "val/clean"), ("pgd", "val/pgd")):
        (final,) = [run for run in runs if (run.attack, run.penalty) == (attack, "l1")]
        assert final.config["strength"] == best([run for run in trials if run.attack == attack], metric)
        assert final.monitor == metric
    page = Path("results/fair/tuning.md").read_text()
    assert page.count("**") == 4 and "Not tuned, because strength scales none of their penalties: none x none" in page
    assert "strength 0.01 |" in page and "val/pgd" in page and "seed 100, 101" in page
    assert Path("results/fair/table.md").exists() and not Path("results/fair-tuning").exists()

    stamps = {path: path.stat().st_mtime_ns for path in Path("outputs").rglob(RECORD)}
    status, output = temper("train", *grid)
    assert status == 0 and "12 runs, 12 done" in output and "6 runs, 6 done" in output, output
    assert stamps == {path: path.stat().st_mtime_ns for path in Path("outputs").rglob(RECORD)}
    assert Path("results/fair/tuning.md").read_text() == page
    status, output = temper("train", *grid, "seed=0,1", "dry_run=true")
    assert "12 runs, 12 done, 0 to run" in output and "12 runs, 6 done, 6 to run" in output, (
        "both stages are shown once the first is done"
    )


def test_tuning_does_not_use_the_test_set(temper: Temper) -> None:
    status, output = temper("train", *TUNE, "penalty=l2", tune("1"))
    assert status == 0, output
    (trial,) = records("fair-tuning")
    assert trial.finished and [entry["checkpoints"] for entry in trial.evaluations.values()] == [{}]
    assert "test/" not in json.dumps(trial.evaluations), "no test metric in the record"
    assert not list(Path("outputs/fair-tuning").rglob("*.npz")) and not list(Path("outputs/fair-tuning").rglob("*.ckpt"))
    assert list(Path("outputs/fair").rglob("*.npz")), "the grid is evaluated"
    assert f"seed 100: val/clean {100 * trial.curves['val/clean'][-1]:.1f} %" in output
    status, output = temper("report", "study=fair-tuning")
    assert status == 0 and "outputs/fair-tuning: no run was evaluated on the test set" in output


def test_a_failed_strength_is_not_selected_and_stops_no_other(temper: Temper) -> None:
    status, output = temper("train", *TUNE, "penalty=l2", tune("1e20,1"))
    assert status == 0 and "failed: outputs/fair-tuning/" in output and "diverged" in output, output
    (final,) = records("fair")
    assert final.config["strength"] == 1 and " failed |" in Path("results/fair/tuning.md").read_text()


@pytest.mark.slow
def test_a_cell_that_fails_at_every_strength_is_reported_and_stops_no_other(temper: Temper) -> None:
    status, output = temper("train", *TUNE, "penalty=l2,none", tune("1e20,1e21"))
    assert status == 1 and "none x l2 failed at every strength" in output, output
    assert [run.penalty for run in records("fair")] == ["none"] and "report: results/fair" in output


def test_a_wrong_budget_is_rejected_with_a_way_out() -> None:
    wrong: dict[str, Any] = {
        "needs the keys strength and seed, and no other (got strength)": {"strength": [0.1, 1]},
        "got strength, seed, steps": {"strength": [1], "seed": [1], "steps": [3]},
        "got 3": 3,
        "hydra.sweeper.tune.strength: List should have at least 1 item": {"strength": [], "seed": [1]},
        "hydra.sweeper.tune.seed.0 should be a valid integer": {"strength": [1], "seed": ["one"]},
        "Example: 'hydra.sweeper.tune.strength=[0.1,1]'": {"strength": [-1], "seed": [1]},
    }
    for message, budget in wrong.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            TuningBudget.of(budget)


def test_nothing_is_started_if_a_setting_is_wrong(temper: Temper) -> None:
    for settings, message in (
        (("penalty=l2", "hydra.sweeper.tune={strength:[0.1]}"), "needs the keys strength and seed"),
        (("penalty=l2", tune("1"), "strength=0.1"), "strength: is tuned by hydra.sweeper.tune"),
        (("penalty=l2,label_smoothing", tune("1,20")), "smoothing"),
    ):
        status, output = temper("train", *TUNE, *settings)
        assert status == 1 and message in output and "Traceback" not in output, output
    assert not Path("outputs").exists()


def test_a_seed_in_both_stages_gives_a_warning(temper: Temper) -> None:
    status, output = temper("train", *TUNE, "penalty=l2", tune("1", "0"), "dry_run=true")
    assert status == 0 and "seed 0 is used both for selection and in the report" in output, output


def test_the_experiment_can_be_overridden(temper: Temper) -> None:
    less = ("experiment=tuned", *QUICK, "attack=none", "penalty=none,l2", "dry_run=true")
    status, output = temper("train", *less, "hydra.sweeper.tune.strength=[0.1,1]", "hydra.sweeper.tune.seed=[7]", "seed=0,1")
    assert status == 0 and "2 cells, 2 runs, 0 done, 2 to run" in output and "then the grid: 4 runs" in output, output
    status, output = temper("train", *less, "hydra.sweeper.tune=null")
    assert status == 0 and "2 cells, 10 runs" in output and "tuning" not in output, output


def test_a_budget_may_be_lists_or_text() -> None:
    expected = TuningBudget(strengths=[0.1, 1.0], seeds=[7, 8])
    for strength, seed in (([1, 0.1, 1.0], [8, 7]), ("1,0.1", "7,8"), (["1", "1/10"], ["7", 8])):
        assert TuningBudget.of({"strength": strength, "seed": seed}) == expected
    assert TuningBudget.of({"strength": 1, "seed": 7}) == TuningBudget(strengths=[1.0], seeds=[7])


def test_selection_and_page_of_a_tuning() -> None:
    cell = TunedCell("pgd", "l2", "", "val/pgd", {0.1: [0.5, 0.7], 1.0: [0.7, 0.5], 3.0: None, 10.0: [0.4, 0.6]})
    assert cell.chosen == 0.1 and cell.at_edge, "the smallest of equal strengths"
    assert cell.score_text(0.1) == "60.0 ± 14.1" and cell.score_text(3.0) == "failed"
    assert not cell._replace(scores={0.1: [0.5], 1.0: [0.7], 3.0: [0.6]}).at_edge
    assert cell._replace(scores={1.0: None}).chosen is None
    page = tuning_page("fair", [cell, cell._replace(setting="attack.steps=3")], ["pgd x none"], [100, 101])
    assert page.count("**60.0 ± 14.1**") == 2 and "l2 (attack.steps=3)" in page
    assert "a better strength may be outside of them: pgd x l2, pgd x l2 (attack.steps=3)." in page


def test_the_monitor_of_a_record_is_that_of_its_best_checkpoint() -> None:
    for attack, kind in (("none", "regularized"), ("pgd", "combined")):
        config = composed(f"attack={attack}", "penalty=l2")
        record = RunRecord(
            status="finished",
            study="",
            attack=attack,
            penalty="l2",
            kind=kind,
            digest="",
            seed=0,
            config={"validation": {"name": "pgd"}},
            code="",
        )
        assert record.monitor == build_module(config).monitor
