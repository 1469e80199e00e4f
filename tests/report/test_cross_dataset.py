"""Studies of several data sets: a report for each, and a comparison of all."""

import dataclasses
from pathlib import Path

import pytest

from temper.report import make_report
from temper.report.claims.claim import Verdict
from temper.report.cross_dataset import BEATS, LOWERS, RAISES, overall_finding
from temper.report.records.load import dataset_name, group_by_dataset
from temper.runs.record import RunRecord
from tests.report.page.test_page import KINDS, Elements
from tests.report.test_pipeline import finished_run, write_study


def trained_on(record: RunRecord, **source: str) -> RunRecord:
    """Return a run on another data source."""
    config = record.config | {"data": {"source": {"_target_": "temper.data.Source"} | source}}
    return dataclasses.replace(record, config=config, digest=f"{record.digest[:6]}{sum(map(ord, source.popitem()[1])) % 100}")


# On shirts adversarial training gains 60 points in each seed; on mails it is less robust than regularization.
SHIRTS = [
    trained_on(made, name="Shirts")
    for made in (
        *(finished_run("none", "none", seed, 0.90, 0.10 + seed / 100, kind="standard") for seed in (0, 1, 2)),
        *(finished_run("none", "l2", seed, 0.90, 0.12 + seed / 100, kind="regularized") for seed in (0, 1, 2)),
        *(finished_run("pgd", "none", seed, 0.80 + seed / 500, 0.70 + seed / 99, kind="adversarial") for seed in (0, 1, 2)),
    )
]
MAILS = [
    trained_on(made, path="somewhere/mails.csv.gz")
    for made in (
        *(finished_run("none", "none", seed, 0.90, 0.30 + seed / 100, kind="standard") for seed in (0, 1, 2)),
        *(finished_run("none", "l2", seed, 0.90, 0.80 + seed / 98, kind="regularized") for seed in (0, 1, 2)),
        *(finished_run("pgd", "none", seed, 0.90, 0.60 + seed / 99, kind="adversarial") for seed in (0, 1, 2)),
    )
]


def test_a_data_set_is_named_by_its_name_its_file_or_its_class() -> None:
    assert dataset_name(SHIRTS[0]) == "Shirts" and dataset_name(MAILS[0]) == "mails" and dataset_name(KINDS[0]) == "Digits"
    assert {name: len(own) for name, own in group_by_dataset([*SHIRTS, *MAILS]).items()} == {"Shirts": 9, "mails": 9}


def test_data_sets_of_one_name_are_distinguished_by_content() -> None:
    one, other = (trained_on(KINDS[0], path="reviews.csv", content=content) for content in ("a1b2c3d4", "ffeeddcc"))
    assert list(group_by_dataset([one, other, one])) == ["reviews (a1b2c3)", "reviews (ffeedd)"]
    assert list(group_by_dataset([one, one])) == ["reviews"]


@pytest.mark.parametrize(
    ("raises", "beats", "lowers", "finding"),
    [
        ("supported", "supported", "supported", "adversarial training pays off, at a cost in clean accuracy"),
        ("supported", "supported", "contradicted", "adversarial training pays off, at no cost in clean accuracy"),
        ("supported", "supported", "undecided", "adversarial training pays off, with an undecided cost in clean accuracy"),
        ("supported", "contradicted", "supported", "regularization alone suffices"),
        ("contradicted", "undecided", "supported", "adversarial training does not pay off"),
        ("supported", "undecided", "supported", "undecided at this sample size"),
        ("not evaluated", "supported", "supported", "not evaluated: cells are missing"),
    ],
)
def test_three_verdicts_give_one_finding(raises: str, beats: str, lowers: str, finding: str) -> None:
    assert overall_finding({RAISES: Verdict(raises), BEATS: Verdict(beats), LOWERS: Verdict(lowers)}) == finding


def test_user_defined_claims_give_no_finding() -> None:
    assert overall_finding({"mine": Verdict.SUPPORTED}) == "not evaluated: cells are missing"


def test_data_sets_are_compared(tmp_path: Path) -> None:
    failed = dataclasses.replace(SHIRTS[0], status="failed", error="it broke", attack="fgsm", digest="failed", evaluations={})
    shown = make_report(write_study(tmp_path, [*SHIRTS, *MAILS, failed]), tmp_path / "results")
    text = (tmp_path / "results/table.md").read_text()
    assert "- Shirts: adversarial training pays off, at a cost in clean accuracy" in text
    assert "- mails: regularization alone suffices" in text
    gains = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| ")}
    assert gains["Shirts"] == "+60.0 ± 0.0" and gains["mails"] == "+30.0 ± 0.0"
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
    make_report(write_study(tmp_path, SHIRTS), tmp_path / "results")
    assert not (tmp_path / "results/Shirts").exists() and (tmp_path / "results/runs.csv").exists()


def test_data_sets_may_have_different_suites(tmp_path: Path) -> None:
    other = []
    for made in MAILS:
        (evaluation,) = made.evaluations.values()
        other.append(dataclasses.replace(made, evaluations={"text-0": evaluation}))
    make_report(write_study(tmp_path, [*SHIRTS, *other]), tmp_path / "results", suite="standard")
    assert "suite text-0" in (tmp_path / "results/mails/table.md").read_text()
