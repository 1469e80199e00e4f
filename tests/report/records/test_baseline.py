"""Penalties that all cells share are the ground on which they are compared."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from temper.config.composed import CONF
from temper.report import make_report
from temper.report.records.baseline import baseline_of, described, names_of, on_baseline, on_baselines
from temper.report.records.load import selected
from temper.report.tables import published_numbers
from temper.runs.record import RunRecord
from tests.report.page.test_page import KINDS
from tests.report.test_pipeline import RUNS, run, written


def grounded(records: list[RunRecord], *ground: str) -> list[RunRecord]:
    """The same cells, each of which has these penalties, too."""
    made = []
    for record in records:
        names = sorted({*record.penalty.split(" + "), *ground} - {"none"})
        kind = {"standard": "regularized", "adversarial": "combined"}.get(record.kind, record.kind)
        config = record.config | {"penalty": {name: {} for name in names}}
        made.append(dataclasses.replace(record, penalty=" + ".join(names), kind=kind, config=config))
    return made


def names(records: list[RunRecord]) -> list[tuple[str, str, str]]:
    return [(record.attack, record.penalty, record.kind) for record in records]


def test_cells_are_named_by_what_they_have_beside_it() -> None:
    found = on_baseline(grounded(KINDS, "crop_flip", "sgd_decay"))
    assert names(found) == names(KINDS)
    assert baseline_of(found) == ["crop_flip", "sgd_decay"]
    (said,) = described(found)
    assert said.startswith("Every cell has crop_flip and sgd_decay, and is named by what it has beside that: none is crop_flip")


def test_a_penalty_that_is_compared_is_no_ground() -> None:
    assert on_baseline(KINDS) == KINDS and not described(KINDS)
    alone = grounded([run("none", "none", 0, 0.9, 0.1), run("pgd", "none", 0, 0.8, 0.5)], "l2")
    assert on_baseline(alone) == alone, "all regularized: that may be what is told of them"
    assert [record.penalty for record in on_baseline(alone, "l2")] == ["none", "none"], "unless it is said"
    apart = grounded([run("none", "l1", 0, 0.9, 0.1), run("none", "l2", 0, 0.8, 0.5)], "crop_flip")
    assert on_baseline(apart) == apart, "nothing would be none"
    assert [record.penalty for record in on_baseline(apart, ["crop_flip"])] == ["l1", "l2"]
    assert on_baseline(grounded(KINDS, "crop_flip"), []) == grounded(KINDS, "crop_flip")


def test_what_a_cell_lacks_is_no_ground() -> None:
    some = [*grounded(KINDS[:1], "crop_flip"), *KINDS[1:]]
    assert on_baseline(some) == some
    with pytest.raises(ValueError, match=r"baseline: \w+ x \w+ has no crop_flip; name what every cell has"):
        on_baseline(some, ["crop_flip"])
    with pytest.raises(ValueError, match="baseline: no cell has crop_flop; there are crop_flip, l2"):
        on_baselines([some], "crop_flop")


def test_what_cells_have_otherwise_is_no_ground() -> None:
    """A decay that is swept is compared; and a strength scales the ground as well as what stands on it."""
    for key, values in {"penalty": ({"l2": {"weight": 1}}, {"l2": {"weight": 2}}), "strength": (1.0, 3.0)}.items():
        alone, *others = grounded(RUNS, "l2")
        others = [dataclasses.replace(one, config=one.config | {key: values[1]}) for one in others]
        cells = [dataclasses.replace(alone, config=alone.config | {key: values[0]}), *others]
        assert on_baseline(cells) == cells
    with pytest.raises(ValueError, match="baseline: crop_flip has not the same settings in every cell"):
        first, *rest = grounded(RUNS, "crop_flip")
        on_baseline(
            [dataclasses.replace(first, config=first.config | {"penalty": {"crop_flip": {"p": 1}}}), *rest], "crop_flip"
        )


def test_runs_that_failed_decide_no_ground() -> None:
    failed = dataclasses.replace(run("fgsm", "none", 0, 0.5, 0.5), status="failed", error="it did")
    found = on_baseline([*grounded(KINDS, "crop_flip"), failed])
    assert baseline_of(found) == ["crop_flip"] and {*names(KINDS)} < {*names(found)}


def test_a_ground_is_typed_as_a_list_or_as_cells_are_named() -> None:
    assert names_of("crop_flip + l2") == names_of(["l2", "crop_flip"]) == ["crop_flip", "l2"] and names_of("none") == []


def test_each_data_set_has_its_own_ground() -> None:
    found = on_baselines([grounded(KINDS, "crop_flip"), KINDS], "crop_flip")
    assert names(found) == 2 * names(KINDS)


def test_cells_are_filtered_by_either_name() -> None:
    found = on_baseline(grounded(RUNS, "crop_flip"))
    for name in ("l2", "crop_flip + l2"):
        assert [record.penalty for record in selected(found, {"penalty": name})] == ["l2"]
    assert {record.penalty for record in selected(found, {"penalty": ["crop_flip"]})} == {"none"}
    with pytest.raises(ValueError, match=r"filter\.penalty: no run has l1; there are none, l2"):
        selected(found, {"penalty": "l1"})


def test_networks_that_were_trained_elsewhere_stand_beside() -> None:
    other = dataclasses.replace(run("wong2020", "none", 0, 0.8, 0.4), kind="external")
    found = on_baseline([*grounded(KINDS, "crop_flip"), other])
    assert names(found) == [*names(KINDS), ("wong2020", "none", "external")]
    assert baseline_of([other, *found]) == ["crop_flip"], "whichever comes first"


@pytest.mark.parametrize("name", ["crop_flip", "weight_decay"], ids=["before l2", "behind l2"])
def test_a_study_says_on_any_ground_what_it_says_without(name: str, tmp_path: Path) -> None:
    """Claims, effects and tables are the same, and commands for what is lacking have the ground in them."""
    plain, ground = tmp_path / "plain", tmp_path / "ground"
    for results, records in {plain: RUNS, ground: grounded(RUNS, name)}.items():
        make_report(written(tmp_path / f"{results.name} runs", records), results)
    for file in ("effects.csv", "tables/accuracy.csv", "front.csv"):
        assert (plain / file).read_text() == (ground / file).read_text()
    before, after = (pd.read_csv(folder / "claims.csv") for folder in (plain, ground))
    pd.testing.assert_frame_equal(before.drop(columns="lacks"), after.drop(columns="lacks"))
    assert after.verdict.nunique() > 1 and after.lacks.str.contains(rf"'penalty=\[{name},l1\]'").any()
    assert f"Every cell has {name}" in (ground / "index.html").read_text()
    assert "Every cell has" not in (plain / "index.html").read_text()


def test_commands_make_the_ground_alone_where_none_is_lacking(tmp_path: Path) -> None:
    settings = OmegaConf.merge(OmegaConf.load(Path(CONF) / "report.yaml"), {"baseline": "crop_flip"})
    records = grounded([run("none", "l2", seed, 0.9, 0.1) for seed in (0, 1)], "crop_flip")
    make_report(written(tmp_path, records), tmp_path / "results", settings=settings)  # type: ignore[arg-type]
    lacks = pd.read_csv(tmp_path / "results/claims.csv").set_index("claim").lacks
    assert lacks["regularization_lowers_gap"] == (
        "none x none: `temper-train study=study attack=none 'penalty=[crop_flip]' seed=0,1 -m`"
    )


def test_no_command_makes_a_cell_without_what_all_have(tmp_path: Path) -> None:
    records = grounded([run("pgd", name, seed, 0.9, 0.5) for name in ("none", "l1") for seed in (0, 1)], "l2")
    make_report(written(tmp_path, records), tmp_path / "results")
    lacks = pd.read_csv(tmp_path / "results/claims.csv").drop_duplicates("claim").set_index("claim").lacks
    assert lacks["l2_makes_small"].endswith("and l2 is in every cell")
    assert not lacks.str.contains("l2,l2").any() and "'penalty=[l2,elastic_net]'" in lacks["elastic_net_does_both"]


def test_published_numbers_stand_beside_the_same_cells() -> None:
    (paper,) = published_numbers.load(["fastat2026"])
    own = paper.on(["crop_flip"])
    for entry in paper.entries:
        for penalty in entry.penalties:
            beside = [each.method for each in own.of(entry.attack, penalty.replace("crop_flip + ", ""))]
            assert (entry.method in beside) == ("crop_flip" in penalty)
    assert paper.on([]) is paper
    assert not own.fits(RUNS) and "are for pgd x crop_flip + label_smoothing + weight_decay" in paper.unmatched()
