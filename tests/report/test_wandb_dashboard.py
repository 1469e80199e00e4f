"""W&B dashboard of a study: its panels refer to metrics that offline runs log, its sentences to the records."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from temper.report.records.long_format import COLUMNS
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.wandb_dashboard import compare_kinds
from temper.runs.record import RunRecord
from tests.conftest import QUICK
from tests.training.test_wandb_logger import AUDITED, history, wandb_summary

Temper = Callable[..., tuple[int, str]]

pytest.importorskip("wandb_workspaces")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def study(temper: Temper) -> Path:
    """Run a study of four kinds and two seeds."""
    grid = ("attack=none,pgd", "penalty=none,l2", "seed=0,1", "study=grid", "-m", "logger=[csv,wandb]")
    status, output = temper("train", *grid, *QUICK, *AUDITED)
    assert status == 0, output
    return Path("outputs/grid")


def names(value: Any) -> Iterator[str]:
    """Yield every metric, config key, table and picture that a specification refers to, as W&B names it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("xAxis", "yAxis", "accessor", "groupBy") and isinstance(item, str):
                yield item
            elif key in ("metrics", "mediaKeys", "columnOrder") and isinstance(item, list):
                yield from item
            elif key == "value" and isinstance(value.get("name"), str) and value["name"] == "tableKey":
                yield str(item)
            elif key == "val" and isinstance(item, str) and item.startswith("final/"):
                yield item
            yield from names(item)
    elif isinstance(value, list):
        for item in value:
            yield from names(item)


def flat(value: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the dotted keys of nested values, of inner nodes and leaves."""
    found = set()
    for key, item in value.items():
        found |= {prefix + key} | (flat(item, f"{prefix}{key}.") if isinstance(item, dict) else set())
    return found


@pytest.mark.slow
def test_every_panel_refers_to_logged_values(study: Path, temper: Temper) -> None:
    status, output = temper("dashboard", "study=grid")
    assert status == 0, output
    assert (
        "combined vs. adversarial training" in output and "wandb sync outputs/grid/wandb" in output and "wandb login" in output
    )
    folder = Path("results/grid/dashboard")
    specifications = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("report", "workspace")}
    files = sorted(study.glob("wandb/*/*.wandb"))
    assert len(files) == 8
    for path in files:
        state = wandb_summary(path)
        summary, config = set(state["summary"]) | flat(state["summary"]), flat(state["config"])
        logged = {name for row in history(path) for name in row} | summary
        seen = set()
        for specification in specifications.values():
            for name in names(specification):
                if name.startswith("run:"):  # fields of W&B itself, such as the display name
                    continue
                seen.add(name)
                known = {re.sub(r"^(summary_metrics\.|summary:)", "", name)} & logged
                key = re.sub(r"^config[.:]", "", name).replace(".value", "", 1)
                assert known or key in config, f"no run logs {name}"
        expected = {"epoch", "val/clean", "val/pgd", "train/risk", "train/penalty", "summary:last/test/clean"}
        expected |= {"summary:last/test/worst_case", "summary:last/test/fgsm", "summary:last/audit/verdict", "final/pictures"}
        expected |= {"summary_metrics.last/test/worst_case", "summary_metrics.cost/seconds", "config:cell.value.kind"}
        assert expected <= seen, expected - seen


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_and_the_numbers_of_the_table(study: Path, temper: Temper) -> None:
    temper("dashboard", "study=grid")
    folder = Path("results/grid/dashboard")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    temper("dashboard", "study=grid")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()} and set(before) == {
        "report.json",
        "workspace.json",
    }
    records = [RunRecord.read(path) for path in study.glob("pgd+l2-*/seed-*")]
    clean = [100 * next(iter(r.evaluations.values()))["checkpoints"]["last"]["metrics"]["test/clean"] for r in records]
    shown = json.dumps(json.loads(before["report.json"]), ensure_ascii=False)
    assert f"{np.mean(clean):.1f} ± {np.std(clean, ddof=1):.1f}" in shown


@pytest.mark.slow
def test_a_rejected_login_is_an_error_with_checks(study: Path, temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    status, output = temper("dashboard", "study=grid", "entity=us")
    assert status == 1 and "W&B rejected the dashboard" in output and "wandb sync" in output
    assert Path("results/grid/dashboard/report.json").exists(), "the files are written anyway"


def test_invalid_options_are_errors(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = temper("dashboard", "study=nowhere")
    assert status == 1 and "study=nowhere: folder outputs/nowhere does not exist" in output
    temper("train", *QUICK)
    status, output = temper("dashboard", "study=default")
    assert status == 1 and "Train with logger=wandb" in output
    (run,) = Path("outputs/default").glob("*/seed-0")
    record = RunRecord.read(run)
    record.config["logger"]["wandb"] = {}
    record.write(run)
    status, output = temper("dashboard", "study=default", "checkpoint=first")
    assert status == 1 and "checkpoint=first" in output and "best, last" in output
    assert temper("dashboard", "study=default", "suite=full")[0] == 1
    shutil.rmtree(run / "evaluations")
    status, output = temper("dashboard", "study=default")
    assert status == 0 and "final/pictures" not in Path("results/default/dashboard/workspace.json").read_text()
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "wandb_workspaces" or name == "temper.report.wandb_panels"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    status, output = temper("dashboard", "study=default")
    assert status == 1 and "pip install 'temper[dashboard]'" in output


def rows(kind: str, attack: str, penalty: str, seed: int, clean: float, seconds: float) -> list[list[Any]]:
    identity = ["study", attack, penalty, "", kind, f"{attack}{penalty}", "suite", "", seed]
    return [[*identity, "last", "test/clean", clean], [*identity, "run", "cost/seconds", seconds]]


def test_kinds_are_compared_by_seed_with_cells_that_differ_in_one_axis() -> None:
    """Compare by hand: two seeds, and two regularized cells with the same standard cell."""
    data = pd.DataFrame(
        [
            *rows("standard", "none", "none", 0, 0.90, 1),
            *rows("standard", "none", "none", 1, 0.80, 1),
            *rows("regularized", "none", "l1", 0, 0.92, 2),
            *rows("regularized", "none", "l2", 0, 0.94, 4),
            *rows("regularized", "none", "l1", 1, 0.90, 2),
            *rows("regularized", "none", "l2", 1, 0.92, 4),
            *rows("combined", "pgd", "l2", 0, 0.70, 9),
            *rows("combined", "fgsm", "dropout", 0, 0.10, 9),
            *rows("regularized", "none", "l2", 5, 0.0, 4),
        ],
        columns=COLUMNS,
    )
    assert compare_kinds(PairedRuns.of(data)) == [
        "regularized vs. standard training: clean accuracy +7.0 ± 5.7 points, training +2.0 ± 0.0 s; "
        "mean ± standard deviation over 2 seeds",
        "combined vs. regularized training: clean accuracy -24.0 points, training +5.0 s; one seed, which is not a result",
    ], "no adversarial run, so no comparison with it; dropout has no regularized partner"
