"""Searches: suggested trials, the Pareto front, its report, and resuming of interrupted searches."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temper.cli.run import run
from temper.config.errors import ConfigError
from temper.config.run_config import RunConfig
from temper.runs.identity import RunIdentity
from temper.runs.record import RECORD, RunRecord
from temper.sweeps.axes import Axis, split_axes
from temper.sweeps.sampling import SearchBudget
from temper.sweeps.search_report import SearchInfo, TrialResult, pareto_trials, search_page
from tests.conftest import QUICK

Temper = Callable[..., tuple[int, str]]
AXES = ("penalty.l2.weight=tag(log,interval(1e-4,1e-1))", "penalty.label_smoothing.smoothing=interval(0,0.4)")
SEARCH = ("-m", "study=found", *QUICK, "penalty=[l2,label_smoothing]")
TPE = "{_target_:optuna.samplers.TPESampler,seed:0,n_startup_trials:2}"


def search(trials: int, concurrent: int = 1, seed: str = "100", sampler: str = TPE) -> str:
    return f"hydra.sweeper.search={{n_trials:{trials},n_jobs:{concurrent},seed:[{seed}],sampler:{sampler}}}"


def axes_of(*arguments: str) -> list[Axis]:
    return split_axes(cast(Any, None), arguments)[0]


def records(study: str) -> list[RunRecord]:
    return [RunRecord.read(path.parent) for path in sorted(Path("outputs", study).glob(f"*/seed-*/{RECORD}"))]


class Runs:
    """Records the folders of started runs, and raises KeyboardInterrupt after `stop` of them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stop: int | None = None

    def __call__(self, config: RunConfig, identity: RunIdentity, *, alone: bool) -> RunRecord | None:
        if len(self.started) == self.stop:
            raise KeyboardInterrupt
        self.started.append("/".join(identity.folder.parts[-3:]))
        return run(config, identity, alone=alone)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr("temper.cli.run.run", runs)
    return runs


@pytest.mark.slow
def test_an_interrupted_search_resumes_to_the_same_result(
    temper: Temper, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, counts = [], []
    stops: dict[str, list[int | None]] = {"uninterrupted": [None], "interrupted": [3, 6, 10, None]}
    for folder in stops:
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        runs.started.clear()
        for runs.stop in stops[folder]:
            status, output = temper("train", *SEARCH, *AXES, search(5, 2, "100,101"))
            assert (status == 0) == (runs.stop is None), output
            assert runs.stop is None or "Run the same command again to resume" in output, output
        assert len(set(runs.started)) == len(runs.started), "no run is started twice"
        pages.append(Path("results/found/search.md").read_bytes())
        counts.append(sorted(runs.started))
        assert Path("results/found/search.png").stat().st_size > 10_000 and Path("results/found/table.md").exists()
    assert pages[0] == pages[1] and counts[0] == counts[1]

    trials, reported = records("found-search"), records("found")
    assert len(trials) == 10 and {r.seed for r in trials} == {100, 101} and {r.seed for r in reported} == {0}
    values = {
        run.digest: [
            sum(r.curves[f"val/{name}"][-1] for r in trials if r.digest == run.digest) / 2 for name in ("clean", "pgd")
        ]
        for run in trials
    }
    dominated = {a for a, x in values.items() for y in values.values() if y != x and y[0] >= x[0] and y[1] >= x[1]}
    assert {r.digest for r in reported} == set(values) - dominated, "the report contains the Pareto front"

    runs.started.clear()
    status, output = temper("train", *SEARCH, *AXES, search(6, 2, "100,101"), "dry_run=true")
    assert status == 0 and not runs.started and "trials 4 to 5 (6 in total)" in output, output
    assert "2 cells, 4 runs, 2 done, 2 to run" in output and "then 0 trials" in output, output


@pytest.mark.slow
def test_a_killed_search_resumes(temper: Temper) -> None:
    """SIGKILL ends the whole process group; joblib's workers run concurrently."""
    command = [sys.executable, "-m", "temper.cli.train", *SEARCH, *AXES, search(4, 2)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(Path("outputs/found-search").glob(f"*/seed-*/{RECORD}")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in Path("outputs/found-search").glob(f"*/seed-*/{RECORD}")}
    assert 0 < len(done) < 4 and not Path("results").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and "report: results/found" in again.stdout, again.stdout + again.stderr
    assert len(records("found-search")) == 4 and done == {path: path.stat().st_mtime_ns for path in done}


def test_a_search_does_not_use_the_test_set(temper: Temper) -> None:
    status, output = temper("train", *SEARCH, *AXES, search(1))
    assert status == 0 and "Pareto front: trials 0" in output and "report: results/found" in output, output
    (trial,) = records("found-search")
    assert trial.finished and [entry["checkpoints"] for entry in trial.evaluations.values()] == [{}]
    assert "test/" not in json.dumps(trial.evaluations), "no test metric in the record"
    assert not list(Path("outputs/found-search").rglob("*.npz")) and not list(Path("outputs/found-search").rglob("*.ckpt"))
    assert list(Path("outputs/found").rglob("*.npz")), "the Pareto front is evaluated"


@pytest.mark.slow
def test_a_failed_trial_stops_no_other_and_is_reported(temper: Temper, runs: Runs) -> None:
    sampler = "{_target_:optuna.samplers.RandomSampler,seed:0}"
    status, output = temper("train", *SEARCH, "penalty.l2.weight=1e-3,1e20", search(4, sampler=sampler))
    assert status == 0 and "diverged" in output, output
    page = Path("results/found/search.md").read_text()
    assert "## Failed trials" in page and "(penalty.l2.weight=1e+20): " in page and " failed |" in page, page
    assert [run.config["penalty"]["l2"]["weight"] for run in records("found")] == [1e-3]
    assert len(runs.started) == 3, "settings that are suggested again are not run again"


@pytest.mark.slow
def test_a_search_fails_if_every_trial_fails(temper: Temper) -> None:
    status, output = temper("train", *SEARCH, "penalty.l2.weight=1e20,1e21", search(1))
    assert status == 1 and "every trial failed" in output and not records("found"), output
    assert "Every trial failed." in Path("results/found/search.md").read_text()


def suggested(seed: int, trials: int, concurrent: int) -> list[dict[str, str]]:
    """Return the suggestions if the first axis is the clean accuracy and the second the robust accuracy."""
    budget = SearchBudget.of({"n_trials": trials, "n_jobs": concurrent, "seed": [1], "sampler": sampler_of(seed)})
    axes, study = axes_of(*AXES), budget.study()
    suggestions: list[dict[str, str]] = []
    while len(suggestions) < trials:
        size = min(concurrent, trials - len(suggestions))
        batch = [study.ask({axis.key: axis.distribution for axis in axes}) for _ in range(size)]
        suggestions += [{axis.key: axis.value(trial.params[axis.key]) for axis in axes} for trial in batch]
        for trial in batch:
            study.tell(trial, list(trial.params.values()))
    return suggestions


def sampler_of(seed: int) -> dict[str, Any]:
    return {"_target_": "optuna.samplers.TPESampler", "seed": seed, "n_startup_trials": 3}


def test_the_same_seed_suggests_the_same_trials_and_a_longer_search_extends_a_shorter_one() -> None:
    assert suggested(0, 12, 3) == suggested(0, 12, 3) != suggested(1, 12, 3)
    assert suggested(0, 12, 3)[:8] == suggested(0, 8, 3)


def test_suggested_values_are_rounded_and_within_their_interval() -> None:
    for axis in axes_of(
        *AXES, "attack.eps=interval(0.01234,0.25)", "attack.steps=int(interval(2,9))", "model.width=range(2,9,3)"
    ):
        study = SearchBudget.of({"n_trials": 1, "seed": 1}).study()
        for _ in range(20):
            value = axis.value(study.ask({axis.key: axis.distribution}).params[axis.key])
            assert len(value.lstrip("0.").replace(".", "").partition("e")[0]) <= 4
            assert float(axis.ends[0]) <= float(value) <= float(axis.ends[-1])
            assert value in axis.values or not axis.values


def test_ends_of_an_axis() -> None:
    log, linear, whole, steps, choice = axes_of(
        *AXES, "attack.steps=int(interval(2,9))", "model.width=range(2,9,3)", "penalty=[l2],none"
    )
    assert log.ends == ("0.0001", "0.1") and log.is_near_end("0.00013") and not log.is_near_end("0.001")
    assert linear.ends == ("0.0", "0.4") and linear.is_near_end("0.39") and not linear.is_near_end("0.03")
    assert whole.ends == ("2", "9") and whole.is_near_end("9") and not whole.is_near_end("8")
    assert steps.ends == ("2", "8") and steps.is_near_end("8") and not steps.is_near_end("5")
    assert choice.ends == ("[l2]", "none") and not choice.is_near_end("none")


def results_of(values: Sequence[tuple[int, int] | None]) -> list[TrialResult]:
    return [
        TrialResult(i, {"x": str(i)}, [v[0] / 9], [v[1] / 9]) if v else TrialResult(i, {"x": str(i)}, [], [], "diverged")
        for i, v in enumerate(values)
    ]


@given(st.lists(st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_the_pareto_front_equals_that_of_optuna(values: list[tuple[int, int] | None]) -> None:
    study = optuna.create_study(directions=["maximize", "maximize"])
    for value in values:
        study.add_trial(
            optuna.trial.create_trial(values=[v / 9 for v in value])
            if value
            else optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)
        )
    best = pareto_trials(results_of(values))
    assert {trial.number for trial in best} == {trial.number for trial in study.best_trials}
    assert [trial.values[0] for trial in best] == sorted(trial.values[0] for trial in best)


def test_two_trials_with_equal_settings_are_one_on_the_pareto_front() -> None:
    first, second = (trial._replace(parameters={"x": "1"}) for trial in results_of([(5, 5), (5, 5)]))
    assert pareto_trials([first, second]) == [first]


def test_page_of_a_search() -> None:
    info = SearchInfo("found", {"x": "interval(0, 9)"}, "RandomSampler (seed=0)", 2, [100, 101], [0, 1], "pgd", {"x": [3]})
    page = search_page(info, results_of([(1, 1), None, (9, 0), (0, 9)]))
    assert "## Pareto front: 3 of 4 trials" in page and "trial 1 (x=1): diverged" in page and "- `x`: interval(0, 9)" in page
    assert "a better value may be outside of it: `x` (trial 3)." in page and "seed 0, 1 and evaluated" in page
    assert page.count("**100.0**") == 2 and "val/pgd" in page and page.index("| 3 ") < page.index("| 2 ")


def test_wrong_settings_are_rejected_with_a_way_out() -> None:
    good = {"n_trials": 4, "seed": [100]}
    wrong: dict[str, Any] = {
        "needs the keys n_trials and seed": {"n_trials": 3},
        "got n_trials, seed, directions": good | {"directions": ["maximize"]},
        "got 3": 3,
        "hydra.sweeper.search.n_trials should be greater than or equal to 1 (got 0)": good | {"n_trials": 0},
        "hydra.sweeper.search.n_jobs should be": good | {"n_jobs": -1},
        "hydra.sweeper.search.seed: List should have at least 1 item": good | {"seed": []},
    }
    for message, given_search in wrong.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            SearchBudget.of(given_search)
    samplers: dict[str, Any] = {
        "sampler.seed should be a whole number (got None)": {"_target_": "optuna.samplers.TPESampler"},
        "Example: hydra.sweeper.search.sampler={_target_:": {"_target_": "optuna.samplers.Oracle", "seed": 0},
        "startups": {"_target_": "optuna.samplers.TPESampler", "seed": 0, "startups": 3},
        "is a grid": {"_target_": "optuna.samplers.GridSampler", "seed": 0},
        "is not an Optuna sampler": {"_target_": "types.SimpleNamespace", "seed": 0},
    }
    for message, sampler in samplers.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            SearchBudget.of(good | {"sampler": sampler}).study()
    axes: dict[str, Sequence[str]] = {
        "there is no axis to search": ["penalty.l2.weight=0.1", "seed=0,1"],
        "a,b or range(1, 9) for an axis of a search": ["penalty.l2.weight=interval(1)"],
        "an interval needs 0 < low < high": ["penalty.l2.weight=tag(log,interval(0,1))"],
        "an interval needs low < high": ["penalty.l2.weight=interval(1,0)"],
        "the only tag of an interval is log": ["penalty.l2.weight=tag(exp,interval(0,1))"],
        "an axis of a search needs at least 2 values, but it has 1": ["penalty.l2.weight=range(0,1)"],
        "seed cannot be searched": [*AXES, "seed=interval(0,9)"],
        "study cannot be searched": [*AXES, "study=a,b"],
    }
    for message, arguments in axes.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            axes_of(*arguments)


def test_nothing_is_started_if_a_setting_is_wrong(temper: Temper) -> None:
    one = search(1)
    for settings, message in (
        (("penalty.label_smoothing.smoothing=interval(0,2)", one), "penalty.label_smoothing.smoothing"),
        (("data.threats.linf.eps=interval(0.1,0.2)", one), "changes the validation attack or the validation split"),
        (("validation.steps=1,5", one), "changes the validation attack or the validation split"),
        (("evaluation.batch_size=100,200", one), "100 and 200 give the same run"),
        ((*AXES, one, "hydra.sweeper.tune={strength:[1],seed:[100]}"), "Set one of them to null"),
        ((*AXES, search(1, sampler="{_target_:optuna.samplers.CmaEsSampler,seed:0}")), "hydra.sweeper.search.sampler: "),
        (AXES, "an interval needs a search"),
    ):
        status, output = temper("train", *SEARCH, *settings)
        assert status == 1 and message in output and "Traceback" not in output, output
    assert not Path("outputs").exists()


def test_a_search_without_optuna_names_the_package_to_install(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in ("search", "sampling", "axes"):
        monkeypatch.delitem(sys.modules, f"temper.sweeps.{name}", raising=False)
    status, output = temper("train", *SEARCH, *AXES, search(1))
    assert status == 1 and "pip install 'temper[search]'" in output, output


def test_the_experiment_can_be_overridden(temper: Temper) -> None:
    less = ("experiment=search", *QUICK, "dry_run=true", "hydra.sweeper.search.n_trials=3")
    status, output = temper("train", *less)
    assert status == 0 and "3 cells, 6 runs, 0 done, 6 to run" in output, output
    assert (
        "then 0 trials, whose settings depend on these results" in output
        and "then the settings on the Pareto front, each with seed 0, 1, 2" in output
        and "warning" not in output
    )
    status, output = temper("train", *less, "seed=100", "attack.eps=0.1", "hydra.sweeper.search.n_jobs=1")
    assert status == 0 and "seed 100 is used both for selection and in the report" in output and "attack.eps" not in output, (
        output
    )
    assert "1 cells, 2 runs, 0 done, 2 to run" in output and "then 2 trials" in output, output
