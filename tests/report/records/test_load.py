"""Loading records: damaged ones are reported and left out, studies are merged, cells are filtered."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from temper.report import make_report
from temper.report.records.load import load_records, merge_duplicates, select_cells
from temper.runs.record import RECORD, RunRecord, collect
from tests.report.test_pipeline import RUNS, SUITE, finished_run, write_study

RUN = finished_run("pgd", "none", 0, 0.9, 0.7)


def changed(**parts: Any) -> str:
    """Return a complete record with some fields replaced."""
    return json.dumps(dataclasses.asdict(RUN) | parts)


def evaluated(**parts: Any) -> str:
    return changed(evaluations={SUITE: RUN.evaluations[SUITE] | parts})


def metrics(**values: Any) -> str:
    return evaluated(checkpoints={"last": {"epoch": 3, "metrics": {"test/clean": 0.9} | values}})


WHOLE = json.dumps(dataclasses.asdict(RUN))
BROKEN: dict[str, str | bytes] = {
    "truncated": WHOLE[: len(WHOLE) // 2],
    "empty": "",
    "binary": b"\xff\xfe\x00result",
    "of another program": json.dumps({"accuracy": 0.9, "epochs": 3}),
    "a list": json.dumps([WHOLE]),
    "deeply nested": "[" * 100_000,
    "another schema": changed(schema_version=99),
    "an unknown field": changed(colour="red"),
    "evaluations as a list": changed(evaluations=[1, 2]),
    "an evaluation as a number": changed(evaluations={SUITE: 0.9}),
    "no attacks": evaluated(suite={"name": "standard"}),
    "checkpoints as a list": evaluated(checkpoints=["last"]),
    "metrics as a list": evaluated(checkpoints={"last": {"epoch": 3, "metrics": [0.9]}}),
    "a metric as a text": metrics(**{"test/pgd": "0.7"}),
    "an accuracy in percent": metrics(**{"test/pgd": 70.0}),
    "a negative accuracy": metrics(**{"test/worst_case": -0.1}),
    "a metric as a mapping": metrics(**{"test/pgd": {"mean": 0.7}}),
    "an unknown status": evaluated(
        checkpoints={"last": {"epoch": 3, "metrics": {}, "audit": {"steps": {"status": "fine", "figure": 0.1, "meaning": ""}}}}
    ),
    "curves as a list": changed(curves=[0.1, 0.2]),
    "a curve as a number": changed(curves={"val/clean": 0.9}),
    "a cost as a text": changed(cost={"seconds": "two"}),
    "a seed as a text": changed(seed="0"),
    "a config as a text": changed(config="pgd"),
    "another seed": changed(seed=7),
    "another digest": changed(digest="ffffffff"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_damaged_records_are_reported_and_left_out(tmp_path: Path, content: str | bytes) -> None:
    study = write_study(tmp_path, [RUN, *RUNS[:2]])
    path = study / "pgd+none-pgdnone" / "seed-0" / RECORD
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    records, problems = collect(study)
    assert [record.attack for record in records] == ["none", "none"]
    assert len(problems) == 1 and str(path) in problems[0]


def test_a_folder_or_a_link_loop_in_place_of_a_record_is_reported(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    folder, loop = (study / "pgd+none-pgdnone" / f"seed-{seed}" / RECORD for seed in (0, 1))
    for path in (folder, loop):
        path.unlink()
    folder.mkdir()
    loop.symlink_to(loop)
    records, problems = collect(study)
    assert len(records) == 3 and len(problems) == 2
    assert str(folder) in problems[0] and str(loop) in problems[1]


def test_partial_records_are_reported_unless_a_complete_one_exists(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    for seed in (0, 1):
        path = study / "pgd+none-pgdnone" / f"seed-{seed}" / RECORD
        path.with_name(f".{RECORD}.123.part").write_text(WHOLE[:100])
    (study / "pgd+none-pgdnone" / "seed-1" / RECORD).unlink()
    records, problems = collect(study)
    assert len(records) == 4
    assert len(problems) == 1 and f"seed-1/.{RECORD}.123.part" in problems[0] and "incomplete record" in problems[0]


def test_metrics_without_a_value_are_missing(tmp_path: Path) -> None:
    study = write_study(tmp_path, [RUN, finished_run("pgd", "none", 1, 0.8, 0.6), RUNS[0]])
    for seed, text in ((0, metrics(**{"test/pgd": None})), (1, metrics(**{"test/pgd": 0.6}))):
        text = text.replace('"seed": 0', f'"seed": {seed}').replace("0.9", "NaN" if seed else "0.9")
        (study / "pgd+none-pgdnone" / f"seed-{seed}" / RECORD).write_text(text)
    records, problems = collect(study)
    assert len(records) == 3 and not problems
    make_report(study, tmp_path / "results")
    line = next(li for li in (tmp_path / "results/table.md").read_text().splitlines() if li.startswith("| pgd"))
    shown = [cell.strip() for cell in line.split("|")]
    assert shown[3] == "90.0" and shown[4].strip("*") == "60.0", "one seed of each remains"


@pytest.mark.parametrize("value", [math.nan, None, math.inf])
def test_a_report_does_not_fail_on_a_metric_without_values(tmp_path: Path, value: float | None) -> None:
    study = write_study(tmp_path, RUNS)
    for path in study.glob(f"*/seed-*/{RECORD}"):
        made = json.loads(path.read_text())
        for checkpoint in made["evaluations"][SUITE]["checkpoints"].values():
            checkpoint["metrics"]["test/worst_case"] = value
        made |= {"cost": made["cost"] | {"seconds": value}, "curves": {"val/clean": [value] * 2, "val/pgd": [0.1, value]}}
        path.write_text(json.dumps(made))
    make_report(study, tmp_path / "results")
    assert not (tmp_path / "results/tradeoff.png").exists() and (tmp_path / "results/heatmap.png").exists()
    assert not re.search(r"\b(inf|nan)\b", (tmp_path / "results/table.md").read_text())


def test_damaged_outcomes_are_reported_and_left_out(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    folders = [path / "evaluations" / SUITE for path in sorted(study.glob("*/seed-*"))]
    right = np.array([True, False, True, False])
    for folder in folders:
        folder.mkdir(parents=True)
        np.savez(folder / "last.npz", clean=right, pgd=right)
    half = (folders[0] / "last.npz").read_bytes()[:200]
    (folders[0] / "last.npz").write_bytes(half)
    np.savez(folders[1] / "last.npz", clean=right, pgd=right[:3])
    np.savez(folders[2] / "last.npz", clean=right[:2], pgd=right[:2])
    shown = "\n".join(map(str, make_report(study, tmp_path / "results")))
    assert [f"{folder}/last.npz is damaged" in shown for folder in folders] == [True, True, False, False, False]
    assert "is damaged" in (tmp_path / "results/index.html").read_text()


def test_a_run_with_two_folders_in_a_study_counts_once(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    shutil.copytree(study / "pgd+none-pgdnone", study / "copy-pgdnone")
    records, problems = load_records([study])
    assert len(records) == len(RUNS)
    assert [problem.partition(": ")[2] for problem in problems] == ["the run in study is used; ignored: 1 in study"] * 2


def test_damaged_records_do_not_prevent_a_report(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    for number, content in enumerate(BROKEN.values(), start=10):
        folder = study / "pgd+none-pgdnone" / f"seed-{number}"
        folder.mkdir()
        (folder / RECORD).write_bytes(content.encode() if isinstance(content, str) else content)
    shown = "\n".join(map(str, make_report(study, tmp_path / "results")))
    for number in range(10, 10 + len(BROKEN)):
        assert f"seed-{number}/{RECORD}" in shown


def test_missing_and_invalid_fields_do_not_prevent_a_report(tmp_path: Path) -> None:
    """Replace each part of the config, versions, hardware and evaluation by values of other types."""
    study = write_study(tmp_path, RUNS)
    whole = dataclasses.asdict(RUN)
    places = [
        ("config",),
        ("versions",),
        ("hardware",),
        ("commit",),
        ("threads",),
        *(("config", key) for key in whole["config"]),
    ]
    places += [("config", "data", "source"), ("versions", "torch"), ("hardware", "cpu"), ("evaluations", SUITE, "suite")]
    values_of_other_types: tuple[Any, ...] = (None, 7, "text", [1], {})
    odd = [(place, value) for place in places if place != ("config", "seed") for value in values_of_other_types]
    for seed, (place, value) in enumerate(odd, start=100):
        values = json.loads(json.dumps(whole)) | {"seed": seed}
        node = values
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        folder = study / "pgd+none-pgdnone" / f"seed-{seed}"
        folder.mkdir()
        (folder / RECORD).write_text(json.dumps(values))
    shown = "\n".join(map(str, make_report(study, tmp_path / "results")))
    assert "damaged or in an unknown format (config.data: " in shown and "in an unknown format (config.validation: " in shown
    assert (tmp_path / "results/table.md").exists()


def test_a_run_in_two_studies_counts_once(tmp_path: Path) -> None:
    one, other = write_study(tmp_path / "a", RUNS[:3]), write_study(tmp_path / "b", RUNS[2:])
    one, other = one.rename(tmp_path / "one"), other.rename(tmp_path / "other")
    records, problems = load_records([one, other])
    assert [(r.attack, r.penalty, r.seed) for r in records] == [
        (r.attack, r.penalty, r.seed) for r in collect_all(RUNS, tmp_path)
    ]
    assert len(problems) == 1
    assert "none x l2 (nonel2), seed 0 is a duplicate: the run in one is used; ignored: 1 in other" in problems[0]


def collect_all(runs: list[RunRecord], folder: Path) -> list[RunRecord]:
    """Return the same runs as one study."""
    return collect(write_study(folder / "all", runs))[0]


def test_the_first_finished_duplicate_is_used() -> None:
    failed = dataclasses.replace(RUN, status="failed", error="it diverged")
    records, problems = merge_duplicates([("a", failed), ("b", RUN), ("c", RUN)])
    assert records == [RUN] and "the run in b is used; ignored: 1 in a" in problems[0]


def test_cells_are_filtered_by_name() -> None:
    kept = select_cells(RUNS, {"attack": ["none", "pgd"], "penalty": "l2"})
    assert [(r.attack, r.penalty) for r in kept] == [("none", "l2")]
    assert select_cells(RUNS, {"attack": None, "penalty": None}) == RUNS
    with pytest.raises(ValueError, match=r"filter\.penalty=l3: no run has this penalty\. Available: none, l2"):
        select_cells(RUNS, {"penalty": ["l2", "l3"]})


def test_several_studies_have_one_report(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    for name, runs in (("one", RUNS[:3]), ("other", RUNS[2:])):
        (tmp_path / "outputs").mkdir(exist_ok=True)
        shutil.move(write_study(tmp_path / name, runs), tmp_path / "outputs" / name)
    status, output = temper("report", "study=[one,other]", "filter.penalty=[none]")
    assert status == 0 and "is a duplicate" in output, output
    text = Path("results/one+other/table.md").read_text()
    assert text.startswith("# one+other") and "91.0 ± 1.4" in text and "| l2" not in text
    status, output = temper("report", "study=[one,other]", "name=both")
    assert status == 0 and Path("results/both/table.md").exists()
    status, output = temper("report", "study=[one,third]")
    assert status != 0 and "study=third: folder outputs/third does not exist. Studies in outputs: one, other." in output
