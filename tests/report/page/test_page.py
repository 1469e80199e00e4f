"""The page of a report: figures by hand, everything inside one file, nothing that a name can break."""

import dataclasses
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from temper.config.cell import Kind
from temper.report import make_report
from temper.report.claims.claim import Claim, Verdict
from temper.report.claims.judgement import Judged, judge
from temper.report.figures.style import lightness
from temper.report.page import chart, infographic
from temper.report.page.claim_view import claims, counts
from temper.report.page.interactive_scatter import PAPER
from temper.report.page.page import marked
from temper.report.records.long_format import frame
from temper.report.statistics.metric_catalogue import Style
from temper.report.statistics.paired_differences import PairedRuns
from tests.report.test_pipeline import RUNS, run, written

KINDS = [
    dataclasses.replace(made, kind=str(Kind.of(attacked=made.attack != "none", penalized=made.penalty != "none")))
    for made in RUNS
]


class Elements(HTMLParser):
    """Every element with its attributes, and what elements never close."""

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
    make_report(written(folder / "study", list(records)), folder / "results")  # type: ignore[arg-type]
    return (folder / "results" / "index.html").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(tmp_path_factory.mktemp("page"), *KINDS)


def test_a_card_holds_the_mean_of_its_kind_over_seeds() -> None:
    cards = {card.kind: card for card in infographic(PairedRuns.of(frame(KINDS, "standard")))}
    assert set(cards) == {Kind.STANDARD, Kind.ADVERSARIAL, Kind.REGULARIZED}, "no combined cell was run"
    robust = {kind: card.bars[1] for kind, card in cards.items()}
    assert robust[Kind.ADVERSARIAL].words == "robust accuracy"
    assert robust[Kind.ADVERSARIAL].text == "71.0 ± 1.4 %"
    assert robust[Kind.ADVERSARIAL].length == pytest.approx(71) and robust[Kind.ADVERSARIAL].mark == pytest.approx(15)
    assert robust[Kind.REGULARIZED].text == "15.0 %", "one seed has no spread"


def test_cells_of_a_kind_are_averaged_within_a_seed_first() -> None:
    both = [run("pgd", "none", seed, 0.9, robust) for seed, robust in ((0, 0.6), (1, 0.8))]
    both += [dataclasses.replace(made, attack="trades", digest="trades") for made in both]
    both = [dataclasses.replace(made, kind="adversarial") for made in both]
    (card,) = infographic(PairedRuns.of(frame(both, "standard")))
    assert card.cells == 2 and card.bars[1].text == "70.0 ± 14.1 %", "as many seeds as there are, not runs"


def judged(direction: str, margin: float) -> Judged:
    side = {"attack": "none", "penalty": "none"}
    holds = {"of": {"attack": "pgd", "penalty": "none"}, "against": side, "metric": "test/worst_case"}
    claim = Claim.model_validate({"sentence": "It does.", "holds": holds | {"direction": direction, "margin": margin}})
    return judge({"it": claim}, PairedRuns.of(frame(RUNS, "standard"), "last"), "study")


@pytest.mark.parametrize(
    ("direction", "margin", "asked", "left", "width"),
    [("more", 0.0, "worst case % higher", 50, 50), ("less", 0.0, "worst case % lower", 0, 50)],
)
def test_an_interval_is_drawn_around_zero(direction: str, margin: float, asked: str, left: float, width: float) -> None:
    ((part,),) = (claim.parts for claim in claims(judged(direction, margin), Style()))
    row = judged(direction, margin).table.iloc[0]
    assert part.asked == asked and part.interval is not None
    assert (part.interval.left, part.interval.width) == (left, width)
    ends = part.interval.high - 50, part.interval.low - 50, part.interval.mean - 50
    scale = ends[0] / row.high
    assert ends == pytest.approx((scale * row.high, scale * row.low, scale * row["mean"]), abs=0.02)
    assert max(map(abs, ends[:2])) == pytest.approx(50 / 1.1, abs=0.02), "the wider end stays inside"


@pytest.mark.parametrize("direction", ["more", "less"])
@pytest.mark.parametrize("margin", [-2.0, -0.05, 0.05, 2.0])
def test_the_tinted_side_is_where_a_claim_is_supported(direction: str, margin: float) -> None:
    found = judged(direction, margin)
    ((part,),) = (claim.parts for claim in claims(found, Style()))
    assert part.interval is not None
    side = part.interval.left, part.interval.left + part.interval.width
    inside = side[0] <= part.interval.low and part.interval.high <= side[1]
    outside = part.interval.high <= side[0] or side[1] <= part.interval.low
    expected = Verdict.SUPPORTED if inside else Verdict.CONTRADICTED if outside else Verdict.UNDECIDED
    assert found.verdicts["it"] == expected
    assert f"{100 * margin:+.0f}" in part.asked
    assert counts(found) == [(expected, 1)]


def test_the_chart_has_the_numbers_of_the_table() -> None:
    made = chart(frame(KINDS, "standard"), "last")
    assert made is not None
    fields = {metric["label"]: metric["field"] for metric in made["metrics"]}
    rows = {(row["attack"], row["penalty"]): row for row in made["spec"]["data"]["values"]}
    robust = fields["worst case %"]
    assert rows["none", "none"][robust] == pytest.approx(15)
    assert rows["none", "none"][f"{robust}low"] == pytest.approx(15 - 7.0711, abs=1e-3)
    assert rows["pgd", "none"][f"{robust}text"] == "71.0 ± 1.4"
    assert rows["none", "l2"][f"{robust}low"] == rows["none", "l2"][robust], "one seed has no spread"


def test_attacks_of_the_chart_differ_in_lightness_of_their_insides() -> None:
    several = [dataclasses.replace(RUNS[0], attack=name, digest=name) for name in ("none", "fgsm", "pgd", "trades")]
    made = chart(frame(several, "standard"), "last")
    assert made is not None
    mark = made["spec"]["layer"][-1]["encoding"]
    inside, edge = (mark[channel]["scale"]["range"] for channel in ("fill", "stroke"))
    assert inside[0] == edge[0].lower() and inside[1] == PAPER and edge[1] != PAPER, "full, then hollow"
    assert all(abs(lightness(one) - lightness(other)) > 15 for one, other in pairwise(inside))


def test_the_page_is_whole_and_asks_for_nothing(page: str) -> None:
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


def test_files_beside_the_page_are_there(page: str, tmp_path: Path) -> None:
    page_of(tmp_path, *KINDS)
    links = [str(attributes["href"]) for tag, attributes in Elements(page).found if tag == "a"]
    beside = [link for link in links if not link.startswith("#")]
    assert beside and all((tmp_path / "results" / link).exists() for link in beside)


def test_names_and_errors_stay_text(tmp_path: Path) -> None:
    evil = '</script><script>alert("x")</script>'
    failed = dataclasses.replace(run("fgsm", "none", 0, 0.9, 0.1), status="failed", error=evil)
    page = page_of(tmp_path, *KINDS, dataclasses.replace(KINDS[2], penalty=evil, digest="evil"), failed)
    assert "alert(" in page and "<script>alert(" not in page
    assert not Elements(page).open


def test_the_same_records_give_the_same_page(page: str, tmp_path: Path) -> None:
    assert page_of(tmp_path, *KINDS) == page


def test_one_run_makes_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path, KINDS[0])
    assert "one seed, which is not a result" in page and not Elements(page).open


def test_markdown_is_marked() -> None:
    assert marked("**1 < 2** by `a&b`") == "<strong>1 &lt; 2</strong> by <code>a&amp;b</code>"
