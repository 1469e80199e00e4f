"""Report page: correct numbers, a self-contained file, and escaped names."""

import dataclasses
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from temper.config.cell import Kind
from temper.report import make_report
from temper.report.claims.claim import Claim, Verdict
from temper.report.claims.judgement import JudgedClaims, judge
from temper.report.figures.style import lightness
from temper.report.page import build_cards, scatter_chart
from temper.report.page.claim_view import claim_views, describe_contrast, verdict_counts
from temper.report.page.interactive_scatter import PAPER
from temper.report.page.page import markdown_to_html
from temper.report.records.long_format import frame
from temper.report.statistics.metric_catalogue import NumberFormat
from temper.report.statistics.paired_differences import PairedRuns
from tests.report.test_pipeline import RUNS, finished_run, write_study

KINDS = [
    dataclasses.replace(record, kind=str(Kind.of(attacked=record.attack != "none", penalized=record.penalty != "none")))
    for record in RUNS
]


class Elements(HTMLParser):
    """HTML elements with their attributes, and the elements that are not closed."""

    EMPTY = frozenset({"meta", "link", "img", "input", "br", "rect", "line"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag, tag


def page_of(folder: Path, *records: object) -> str:
    make_report(write_study(folder / "study", list(records)), folder / "results")  # type: ignore[arg-type]
    return (folder / "results" / "index.html").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(tmp_path_factory.mktemp("page"), *KINDS)


def test_card_shows_the_mean_of_its_kind_over_seeds() -> None:
    cards = {card.kind: card for card in build_cards(PairedRuns.of(frame(KINDS, "standard")))}
    assert set(cards) == {Kind.STANDARD, Kind.ADVERSARIAL, Kind.REGULARIZED}, "no combined cell was run"
    robust = {kind: card.bars[1] for kind, card in cards.items()}
    assert robust[Kind.ADVERSARIAL].label == "robust accuracy"
    assert robust[Kind.ADVERSARIAL].text == "71.0 ± 1.4 %"
    assert robust[Kind.ADVERSARIAL].length == pytest.approx(71) and robust[Kind.ADVERSARIAL].mark == pytest.approx(15)
    assert robust[Kind.REGULARIZED].text == "15.0 %", "one seed has no standard deviation"


def test_cells_of_a_kind_are_averaged_within_a_seed_first() -> None:
    both = [finished_run("pgd", "none", seed, 0.9, robust) for seed, robust in ((0, 0.6), (1, 0.8))]
    both += [dataclasses.replace(record, attack="trades", digest="trades") for record in both]
    both = [dataclasses.replace(record, kind="adversarial") for record in both]
    (card,) = build_cards(PairedRuns.of(frame(both, "standard")))
    assert card.cells == 2 and card.bars[1].text == "70.0 ± 14.1 %", "the standard deviation is over seeds, not runs"


def judged(direction: str, margin: float) -> JudgedClaims:
    side = {"attack": "none", "penalty": "none"}
    holds = {"of": {"attack": "pgd", "penalty": "none"}, "against": side, "metric": "test/worst_case"}
    claim = Claim.model_validate({"sentence": "It does.", "holds": holds | {"direction": direction, "margin": margin}})
    return judge({"it": claim}, PairedRuns.of(frame(RUNS, "standard"), "last"), "study")


@pytest.mark.parametrize(
    ("direction", "margin", "expectation", "left", "width"),
    [("more", 0.0, "worst case % higher", 50, 50), ("less", 0.0, "worst case % lower", 0, 50)],
)
def test_an_interval_is_drawn_around_zero(direction: str, margin: float, expectation: str, left: float, width: float) -> None:
    ((contrast,),) = (claim.contrasts for claim in claim_views(judged(direction, margin), NumberFormat()))
    row = judged(direction, margin).table.iloc[0]
    assert contrast.expectation == expectation and contrast.interval is not None
    assert (contrast.interval.left, contrast.interval.width) == (left, width)
    ends = contrast.interval.high - 50, contrast.interval.low - 50, contrast.interval.mean - 50
    scale = ends[0] / row.high
    assert ends == pytest.approx((scale * row.high, scale * row.low, scale * row["mean"]), abs=0.02)
    assert max(map(abs, ends[:2])) == pytest.approx(50 / 1.1, abs=0.02), "both ends are inside the drawing"


@pytest.mark.parametrize(
    ("contrast", "words"),
    [
        ("any x none - none x none", "adversarial vs. standard training"),
        ("any x none - none x any", "adversarial training vs. regularization"),
        ("any x any - any x none", "combined vs. adversarial training"),
        ("none x l1 - none x none", "standard training with vs. without l1"),
        ("pgd x any - pgd x none", "pgd training with regularization vs. pgd training"),
        ("any x rotation - any x without", "adversarial training with vs. without rotation"),
        ("any x a or b - best of any x without", "adversarial training with a or b vs. the best without it"),
        ("synergy of any x any", "synergy of attack and penalty"),
    ],
)
def test_contrasts_are_described_in_words(contrast: str, words: str) -> None:
    assert describe_contrast(contrast) == words


@pytest.mark.parametrize("direction", ["more", "less"])
@pytest.mark.parametrize("margin", [-2.0, -0.05, 0.05, 2.0])
def test_claim_is_supported_within_the_tinted_range(direction: str, margin: float) -> None:
    found = judged(direction, margin)
    ((contrast,),) = (claim.contrasts for claim in claim_views(found, NumberFormat()))
    assert contrast.interval is not None
    side = contrast.interval.left, contrast.interval.left + contrast.interval.width
    inside = side[0] <= contrast.interval.low and contrast.interval.high <= side[1]
    outside = contrast.interval.high <= side[0] or side[1] <= contrast.interval.low
    expected = Verdict.SUPPORTED if inside else Verdict.CONTRADICTED if outside else Verdict.UNDECIDED
    assert found.verdicts["it"] == expected
    assert f"{100 * margin:+.0f}" in contrast.expectation
    assert verdict_counts(found) == [(expected, 1)]


def test_chart_shows_the_numbers_of_the_table() -> None:
    chart = scatter_chart(frame(KINDS, "standard"), "last")
    assert chart is not None
    fields = {metric["label"]: metric["field"] for metric in chart["metrics"]}
    rows = {(row["attack"], row["penalty"]): row for row in chart["spec"]["data"]["values"]}
    robust = fields["worst case %"]
    assert rows["none", "none"][robust] == pytest.approx(15)
    assert rows["none", "none"][f"{robust}low"] == pytest.approx(15 - 7.0711, abs=1e-3)
    assert rows["pgd", "none"][f"{robust}text"] == "71.0 ± 1.4"
    assert rows["none", "l2"][f"{robust}low"] == rows["none", "l2"][robust], "one seed has no standard deviation"


def test_fills_of_attacks_in_the_chart_differ_in_lightness() -> None:
    several = [dataclasses.replace(RUNS[0], attack=name, digest=name) for name in ("none", "fgsm", "pgd", "trades")]
    chart = scatter_chart(frame(several, "standard"), "last")
    assert chart is not None
    mark = chart["spec"]["layer"][-1]["encoding"]
    fill, edge = (mark[channel]["scale"]["range"] for channel in ("fill", "stroke"))
    assert fill[0] == edge[0].lower() and fill[1] == PAPER and edge[1] != PAPER, "filled, then hollow"
    assert all(abs(lightness(one) - lightness(other)) > 15 for one, other in pairwise(fill))


def test_page_is_self_contained_and_well_formed(page: str) -> None:
    elements = Elements(page)
    assert not elements.open
    for tag, attributes in elements.found:
        if tag in ("img", "script", "link", "iframe", "source"):
            where = attributes.get("src") or attributes.get("href")
            assert where is None or where.startswith("data:"), f"{tag} fetches {where}"
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style and not any("url(" in text or "@import" in text for text in style)
    anchors = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
    links = [str(attributes["href"]) for tag, attributes in elements.found if tag == "a"]
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_linked_files_exist(page: str, tmp_path: Path) -> None:
    page_of(tmp_path, *KINDS)
    links = [str(attributes["href"]) for tag, attributes in Elements(page).found if tag == "a"]
    files = [link for link in links if not link.startswith("#")]
    assert files and all((tmp_path / "results" / link).exists() for link in files)


def test_names_and_errors_are_escaped(tmp_path: Path) -> None:
    evil = '</script><script>alert("x")</script>'
    failed = dataclasses.replace(finished_run("fgsm", "none", 0, 0.9, 0.1), status="failed", error=evil)
    page = page_of(tmp_path, *KINDS, dataclasses.replace(KINDS[2], penalty=evil, digest="evil"), failed)
    assert "alert(" in page and "<script>alert(" not in page
    assert not Elements(page).open


def test_same_records_give_the_same_page(page: str, tmp_path: Path) -> None:
    assert page_of(tmp_path, *KINDS) == page


def test_page_of_a_single_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, KINDS[0])
    assert "one seed, which is not a result" in page and not Elements(page).open


def test_markdown_becomes_html() -> None:
    assert markdown_to_html("**1 < 2** by `a&b`") == "<strong>1 &lt; 2</strong> by <code>a&amp;b</code>"
