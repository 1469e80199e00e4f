"""Baseline: penalties that all cells share are left out of their names."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from temper.config.composed import CONF
from temper.report import make_report
from temper.report.records.baseline import (
    apply_baseline,
    apply_baselines,
    baseline_penalties,
    describe_baseline,
    parse_baseline,
)
from temper.report.records.load import select_cells
from temper.report.tables import published_numbers
from temper.runs.record import RunRecord
from tests.report.page.test_page import KINDS
from tests.report.test_pipeline import RUNS, finished_run, write_study


def add_penalties(records: list[RunRecord], *shared: str) -> list[RunRecord]:
    """Return the same cells, each with these penalties added."""
    made = []
    for record in records:
        names = sorted({*record.penalty.split(" + "), *shared} - {"none"})
        kind = {"standard": "regularized", "adversarial": "combined"}.get(record.kind, record.kind)
        config = record.config | {"penalty": {name: {} for name in names}}
        made.append(dataclasses.replace(record, penalty=" + ".join(names), kind=kind, config=config))
    return made


def names(records: list[RunRecord]) -> list[tuple[str, str, str]]:
    return [(record.attack, record.penalty, record.kind) for record in records]


def test_cells_are_named_relative_to_the_baseline() -> None:
    found = apply_baseline(add_penalties(KINDS, "crop_flip", "sgd_decay"))
    assert names(found) == names(KINDS)
    assert baseline_penalties(found) == ["crop_flip", "sgd_decay"]
    (sentence,) = describe_baseline(found)
    assert sentence.startswith("Baseline of every cell: crop_flip and sgd_decay.") and "none means crop_flip and" in sentence


def test_a_compared_penalty_is_not_part_of_the_baseline() -> None:
    assert apply_baseline(KINDS) == KINDS and not describe_baseline(KINDS)
    alone = add_penalties([finished_run("none", "none", 0, 0.9, 0.1), finished_run("pgd", "none", 0, 0.8, 0.5)], "l2")
    assert apply_baseline(alone) == alone, "all regularized: that may be their description"
    assert [record.penalty for record in apply_baseline(alone, "l2")] == ["none", "none"], "unless it is configured"
    alternatives = add_penalties(
        [finished_run("none", "l1", 0, 0.9, 0.1), finished_run("none", "l2", 0, 0.8, 0.5)], "crop_flip"
    )
    assert apply_baseline(alternatives) == alternatives, "no cell would be none"
    assert [record.penalty for record in apply_baseline(alternatives, ["crop_flip"])] == ["l1", "l2"]
    assert apply_baseline(add_penalties(KINDS, "crop_flip"), []) == add_penalties(KINDS, "crop_flip")


def test_a_penalty_that_a_cell_lacks_is_not_part_of_the_baseline() -> None:
    some = [*add_penalties(KINDS[:1], "crop_flip"), *KINDS[1:]]
    assert apply_baseline(some) == some
    with pytest.raises(
        ValueError, match=r"baseline=crop_flip: \w+ x \w+ has no crop_flip\. Name only penalties that every cell has"
    ):
        apply_baseline(some, ["crop_flip"])
    with pytest.raises(ValueError, match=r"baseline=crop_flop: no cell has this penalty\..*: crop_flip, l2"):
        apply_baselines([some], "crop_flop")


def test_a_penalty_with_different_settings_is_not_part_of_the_baseline() -> None:
    """A swept weight is compared, and a swept strength scales the baseline too."""
    for key, values in {"penalty": ({"l2": {"weight": 1}}, {"l2": {"weight": 2}}), "strength": (1.0, 3.0)}.items():
        alone, *others = add_penalties(RUNS, "l2")
        others = [dataclasses.replace(one, config=one.config | {key: values[1]}) for one in others]
        cells = [dataclasses.replace(alone, config=alone.config | {key: values[0]}), *others]
        assert apply_baseline(cells) == cells
    with pytest.raises(ValueError, match="baseline=crop_flip: the settings of crop_flip differ between cells"):
        first, *rest = add_penalties(RUNS, "crop_flip")
        apply_baseline(
            [dataclasses.replace(first, config=first.config | {"penalty": {"crop_flip": {"p": 1}}}), *rest], "crop_flip"
        )


def test_failed_runs_do_not_affect_the_baseline() -> None:
    failed = dataclasses.replace(finished_run("fgsm", "none", 0, 0.5, 0.5), status="failed", error="it did")
    found = apply_baseline([*add_penalties(KINDS, "crop_flip"), failed])
    assert baseline_penalties(found) == ["crop_flip"] and {*names(KINDS)} < {*names(found)}


def test_a_baseline_is_a_list_or_a_cell_name() -> None:
    assert (
        parse_baseline("crop_flip + l2") == parse_baseline(["l2", "crop_flip"]) == ["crop_flip", "l2"]
        and parse_baseline("none") == []
    )


def test_each_data_set_has_its_own_baseline() -> None:
    found = apply_baselines([add_penalties(KINDS, "crop_flip"), KINDS], "crop_flip")
    assert names(found) == 2 * names(KINDS)


def test_filters_accept_names_with_and_without_the_baseline() -> None:
    found = apply_baseline(add_penalties(RUNS, "crop_flip"))
    for name in ("l2", "crop_flip + l2"):
        assert [record.penalty for record in select_cells(found, {"penalty": name})] == ["l2"]
    assert {record.penalty for record in select_cells(found, {"penalty": ["crop_flip"]})} == {"none"}
    with pytest.raises(ValueError, match=r"filter\.penalty=l1: no run has this penalty\. Available: none, l2"):
        select_cells(found, {"penalty": "l1"})


def test_external_networks_keep_their_names() -> None:
    other = dataclasses.replace(finished_run("wong2020", "none", 0, 0.8, 0.4), kind="external")
    found = apply_baseline([*add_penalties(KINDS, "crop_flip"), other])
    assert names(found) == [*names(KINDS), ("wong2020", "none", "external")]
    assert baseline_penalties([other, *found]) == ["crop_flip"], "in any order"


@pytest.mark.parametrize("name", ["crop_flip", "weight_decay"], ids=["sorted before l2", "sorted after l2"])
def test_a_baseline_changes_no_result_of_a_study(name: str, tmp_path: Path) -> None:
    """Claims, effects and tables are equal, and commands for missing cells include the baseline."""
    plain, shared = tmp_path / "plain", tmp_path / "shared"
    for results, records in {plain: RUNS, shared: add_penalties(RUNS, name)}.items():
        make_report(write_study(tmp_path / f"{results.name} runs", records), results)
    for file in ("effects.csv", "tables/accuracy.csv", "front.csv"):
        assert (plain / file).read_text() == (shared / file).read_text()
    before, after = (pd.read_csv(folder / "claims.csv") for folder in (plain, shared))
    pd.testing.assert_frame_equal(before.drop(columns="lacks"), after.drop(columns="lacks"))
    assert after.verdict.nunique() > 1 and after.lacks.str.contains(rf"'penalty=\[{name},l1\]'").any()
    assert f"Baseline of every cell: {name}." in (shared / "index.html").read_text()
    assert "Baseline of every cell" not in (plain / "index.html").read_text()


def test_commands_train_the_baseline_alone_where_none_is_missing(tmp_path: Path) -> None:
    settings = OmegaConf.merge(OmegaConf.load(Path(CONF) / "report.yaml"), {"baseline": "crop_flip"})
    records = add_penalties([finished_run("none", "l2", seed, 0.9, 0.1) for seed in (0, 1)], "crop_flip")
    make_report(write_study(tmp_path, records), tmp_path / "results", settings=settings)  # type: ignore[arg-type]
    lacks = pd.read_csv(tmp_path / "results/claims.csv").set_index("claim").lacks
    assert lacks["regularization_lowers_gap"] == (
        "none x none: `temper-train study=study attack=none 'penalty=[crop_flip]' seed=0,1 -m`"
    )


def test_no_command_trains_a_cell_without_the_baseline(tmp_path: Path) -> None:
    records = add_penalties([finished_run("pgd", name, seed, 0.9, 0.5) for name in ("none", "l1") for seed in (0, 1)], "l2")
    make_report(write_study(tmp_path, records), tmp_path / "results")
    lacks = pd.read_csv(tmp_path / "results/claims.csv").drop_duplicates("claim").set_index("claim").lacks
    assert lacks["l2_makes_small"].endswith("(impossible here: every cell has l2)")
    assert not lacks.str.contains("l2,l2").any() and "'penalty=[l2,elastic_net]'" in lacks["elastic_net_does_both"]


def test_published_numbers_are_matched_relative_to_the_baseline() -> None:
    (paper,) = published_numbers.load(["fastat2026"])
    relative = paper.relative_to(["crop_flip"])
    for entry in paper.entries:
        for penalty in entry.penalties:
            methods = [each.method for each in relative.methods_for(entry.attack, penalty.replace("crop_flip + ", ""))]
            assert (entry.method in methods) == ("crop_flip" in penalty)
    assert paper.relative_to([]) is paper
    assert (
        not relative.matches_any(RUNS) and "are for pgd x crop_flip + label_smoothing + weight_decay" in paper.unmatched_note()
    )
