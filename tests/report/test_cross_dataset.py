"""Studies of several data sets: one report each, and one that sets them side by side."""

import dataclasses
from pathlib import Path

import pytest

from temper.report import make_report
from temper.report.claims.claim import Verdict
from temper.report.cross_dataset import BEATS, LOWERS, RAISES, reading
from temper.report.records.load import by_data, data_of
from temper.runs.record import RunRecord
from tests.report.page.test_page import KINDS, Elements
from tests.report.test_pipeline import run, written


def learned_from(record: RunRecord, **source: str) -> RunRecord:
    config = record.config | {"data": {"source": {"_target_": "temper.data.Source"} | source}}
    return dataclasses.replace(record, config=config, digest=f"{record.digest[:6]}{sum(map(ord, source.popitem()[1])) % 100}")


# On shirts adversarial training gains 60 points in each seed; on mails nothing is left to gain.
SHIRTS = [
    learned_from(made, name="Shirts")
    for made in (
        *(run("none", "none", seed, 0.90, 0.10 + seed / 100, kind="standard") for seed in (0, 1, 2)),
        *(run("none", "l2", seed, 0.90, 0.12 + seed / 100, kind="regularized") for seed in (0, 1, 2)),
        *(run("pgd", "none", seed, 0.80 + seed / 500, 0.70 + seed / 99, kind="adversarial") for seed in (0, 1, 2)),
    )
]
MAILS = [
    learned_from(made, path="somewhere/mails.csv.gz")
    for made in (
        *(run("none", "none", seed, 0.90, 0.30 + seed / 100, kind="standard") for seed in (0, 1, 2)),
        *(run("none", "l2", seed, 0.90, 0.80 + seed / 98, kind="regularized") for seed in (0, 1, 2)),
        *(run("pgd", "none", seed, 0.90, 0.60 + seed / 99, kind="adversarial") for seed in (0, 1, 2)),
    )
]


def test_a_data_set_is_named_by_its_name_its_file_or_its_source() -> None:
    assert data_of(SHIRTS[0]) == "Shirts" and data_of(MAILS[0]) == "mails" and data_of(KINDS[0]) == "Digits"
    assert {name: len(own) for name, own in by_data([*SHIRTS, *MAILS]).items()} == {"Shirts": 9, "mails": 9}


def test_sets_of_one_name_are_told_apart_by_what_they_hold() -> None:
    one, other = (learned_from(KINDS[0], path="reviews.csv", content=content) for content in ("a1b2c3d4", "ffeeddcc"))
    assert list(by_data([one, other, one])) == ["reviews (a1b2c3)", "reviews (ffeedd)"]
    assert list(by_data([one, one])) == ["reviews"]


@pytest.mark.parametrize(
    ("raises", "beats", "lowers", "says"),
    [
        ("supported", "supported", "supported", "adversarial training pays, at a price in clean accuracy"),
        ("supported", "supported", "contradicted", "adversarial training pays, at no price in clean accuracy"),
        ("supported", "supported", "undecided", "adversarial training pays, its price in clean accuracy undecided"),
        ("supported", "contradicted", "supported", "regularization is enough"),
        ("contradicted", "undecided", "supported", "adversarial training does not pay"),
        ("supported", "undecided", "supported", "undecided at this sample size"),
        ("lacking", "supported", "supported", "cells are lacking"),
    ],
)
def test_what_the_claims_say_in_one_sentence(raises: str, beats: str, lowers: str, says: str) -> None:
    assert reading({RAISES: Verdict(raises), BEATS: Verdict(beats), LOWERS: Verdict(lowers)}) == says


def test_claims_of_the_users_own_are_no_reading() -> None:
    assert reading({"mine": Verdict.SUPPORTED}) == "cells are lacking"


def test_data_sets_stand_side_by_side(tmp_path: Path) -> None:
    failed = dataclasses.replace(SHIRTS[0], status="failed", error="it broke", attack="fgsm", digest="failed", evaluations={})
    shown = make_report(written(tmp_path, [*SHIRTS, *MAILS, failed]), tmp_path / "results")
    text = (tmp_path / "results/table.md").read_text()
    assert "- Shirts: adversarial training pays, at a price in clean accuracy" in text
    assert "- mails: regularization is enough" in text
    prices = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| ")}
    assert prices["Shirts"] == "+60.0 ± 0.0" and prices["mails"] == "+30.0 ± 0.0"
    assert "✓ supported (+60.0)" in text and "✗ contradicted" in text
    assert any("it broke" in str(line) for line in shown)
    for name in ("Shirts", "mails"):
        own = (tmp_path / "results" / name / "table.md").read_text()
        assert f"{name}, linf" in own and "3 seeds" in own
    page = (tmp_path / "results/index.html").read_text()
    elements = Elements(page)
    assert not elements.open
    links = {str(attributes["href"]) for tag, attributes in elements.found if tag == "a"}
    assert links == {"Shirts/index.html", "mails/index.html"}
    assert all((tmp_path / "results" / link).exists() for link in links)


def test_one_data_set_has_one_report(tmp_path: Path) -> None:
    make_report(written(tmp_path, SHIRTS), tmp_path / "results")
    assert not (tmp_path / "results/Shirts").exists() and (tmp_path / "results/runs.csv").exists()


def test_data_sets_may_be_evaluated_by_different_suites(tmp_path: Path) -> None:
    other = []
    for made in MAILS:
        (evaluation,) = made.evaluations.values()
        other.append(dataclasses.replace(made, evaluations={"text-0": evaluation}))
    make_report(written(tmp_path, [*SHIRTS, *other]), tmp_path / "results", suite="standard")
    assert "suite text-0" in (tmp_path / "results/mails/table.md").read_text()
