"""Cells that differ in more than their names are not paired, from the records to the page."""

from collections.abc import Mapping
from pathlib import Path

from temper.report import make_report
from temper.report.records.recipe import differing_parts, parse_recipe, recipe_of
from temper.runs.record import RunRecord
from tests.report.test_pipeline import RUNS, finished_run, write_study

CONFIG = RUNS[0].config


def cell(attack: str, penalty: str, robust: float, config: Mapping[str, object] = {}) -> list[RunRecord]:
    parts = {} if penalty == "none" else {"penalty": {name: {"weight": 0.1} for name in penalty.split(" + ")}}
    return [
        finished_run(
            attack,
            penalty,
            s,
            0.9,
            robust + s / 100,
            digest=f"{attack}{penalty}{len(str(config))}"[:8],
            config=CONFIG | parts | {**config},
        )
        for s in (0, 1)
    ]


def test_a_recipe_shows_the_changed_part() -> None:
    (one, other, *_) = cell("pgd", "l2", 0.5)
    assert recipe_of(one) == recipe_of(other), "a recipe does not contain the seed"
    whole = parse_recipe(recipe_of(one))
    assert list(whole) == ["rest", "attack.pgd", "penalty.l2", "strength"] and whole["strength"] == "1"
    for changed, name in (
        ({"model": {"width": 64}}, "rest"),
        ({"attack": {"steps": 20}}, "attack.pgd"),
        ({"penalty": {"l2": {"weight": 9}}}, "penalty.l2"),
        ({"strength": 3}, "strength"),
    ):
        found = parse_recipe(recipe_of(cell("pgd", "l2", 0.5, changed)[0]))
        assert [part for part in whole if found[part] != whole[part]] == [name]
    assert recipe_of(cell("pgd", "l2", 0.5, {"model": {"width": 4}})[0]) == recipe_of(
        cell("pgd", "l2", 0.5, {"model": {"width": 4.0, "compile": False}})[0]
    ), "4 and 4.0 are equal, and so are default settings"
    for idle in ({"threads": 4}, {"evaluation": {"name": "full"}}, {"data": CONFIG["data"] | {"threats": {"l2": {"eps": 1}}}}):
        assert recipe_of(cell("pgd", "l2", 0.5, idle)[0]) == recipe_of(one)


def test_the_strength_of_a_baseline_is_part_of_the_recipe() -> None:
    """The strength also scales penalties that the name of a cell omits."""
    shared = {"penalty": {"weight_decay": {"weight": 0.1}}}
    weak, strong = (recipe_of(cell("none", "none", 0.1, shared | {"strength": s})[0]) for s in (0.1, 1))
    assert differing_parts(weak, strong) == ["strength"]


def test_networks_of_other_sizes_are_not_compared(tmp_path: Path) -> None:
    small, large = ({"model": {"width": width}} for width in (4, 64))
    records = [*cell("none", "none", 0.1, small), *cell("pgd", "none", 0.7, large)]
    make_report(write_study(tmp_path, records), tmp_path / "results")
    line = "pgd x none and none x none are not compared: they also differ in model.width (64, 4)"
    for name in ("table.md", "index.html"):
        assert line in (tmp_path / "results" / name).read_text()
    assert "cells under one suite whose other settings are equal" in (tmp_path / "results/table.md").read_text()
    assert "model.width" not in make_and_read(tmp_path / "alike", [*records[:2], *cell("pgd", "none", 0.7, small)])


def make_and_read(folder: Path, records: list[RunRecord]) -> str:
    make_report(write_study(folder, records), folder / "results")
    return (folder / "results/table.md").read_text()


def test_a_note_says_that_strengths_were_tuned_separately(tmp_path: Path) -> None:
    records = [*cell("none", "none", 0.1), *cell("none", "l2", 0.1, {"strength": 10}), *cell("pgd", "none", 0.5)]
    text = make_and_read(tmp_path, [*records, *cell("pgd", "l2", 0.6, {"strength": 0.1})])
    assert "synergy of pgd x l2, test/worst_case: strengths differ: 0.1 in pgd x l2, 10 in none x l2" in text
    assert "gain more robust accuracy than the sum of their separate gains. Accuracies near 0" in text
    assert text.count("strengths differ: 0.1 in pgd x l2, 10 in none x l2") > 2, "with the claim too"
