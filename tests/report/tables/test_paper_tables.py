"""Tables: numbers as pandas groups them, columns, rows and units that can be chosen, the best marked, papers beside."""

import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from omegaconf import OmegaConf

from temper.config.cell import Kind
from temper.config.composed import CONF
from temper.report import make_report
from temper.report.claims.claim import load
from temper.report.claims.judgement import judge
from temper.report.figures.registry import FIGURES
from temper.report.page import infographic
from temper.report.records.long_format import frame
from temper.report.statistics.metric_catalogue import METRICS, describe, full_name
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables import kind_comparison, published_numbers
from temper.report.tables.bibliography import citations, cited, methods_of, references
from temper.report.tables.kind_comparison import NOT_MEASURED, comparison, measured
from temper.report.tables.markdown_latex import to_latex
from temper.report.tables.paper_tables import TableOptions
from temper.report.tables.results_table import tabulate
from temper.report.tables.table_columns import columns_of
from temper.report.tables.table_rows import rows_of
from temper.training.wandb_logger import direction
from tests.report.statistics.test_paired_differences import Cells, numbers
from tests.report.test_pipeline import RUNS, run, written

DATA = frame(RUNS, "standard")
SETTINGS: Any = OmegaConf.load(Path(CONF) / "report.yaml")


def test_the_raw_numbers_are_those_of_pandas() -> None:
    rng = np.random.default_rng(0)
    runs = [run(a, p, s, *rng.random(2)) for a in ("none", "pgd") for p in ("none", "l2") for s in range(4)]
    numbers = tabulate(frame(runs, "standard"), ["clean", "pgd"], ["pgd"]).numbers().set_index(["attack", "penalty"])
    table = pd.DataFrame(
        [
            [
                r.attack,
                r.penalty,
                *(r.evaluations["standard-0"]["checkpoints"]["last"]["metrics"][f"test/{m}"] for m in ("clean", "pgd")),
            ]
            for r in runs
        ],
        columns=["attack", "penalty", "clean", "pgd"],
    )
    expected = table.groupby(["attack", "penalty"]).agg(["mean", "std", "count"])
    for metric in ("clean", "pgd"):
        found = numbers[[f"last:test/{metric} {figure}" for figure in ("mean", "sd", "n")]].sort_index()
        assert found.to_numpy() == pytest.approx(expected[metric].to_numpy())


def test_short_names() -> None:
    wanted = ["clean", "pgd", "worst_case", "gap", "seconds", "best:pgd", "gradient_evaluations", "gap/clean"]
    names = [column.name for column in columns_of(DATA, wanted, ["pgd"], "last")]
    assert names == [
        "last:test/clean",
        "last:test/pgd",
        "last:test/worst_case",
        "last:gap/clean",
        "run:cost/seconds",
        "best:test/pgd",
        "run:cost/gradient_evaluations",
        "last:gap/clean",
    ]
    assert full_name("norm", []) == "weights/norm"
    with pytest.raises(ValueError, match="pdg; did you mean pgd"):
        columns_of(DATA, ["pdg"], ["pgd"], "last")
    with pytest.raises(ValueError, match=r"first:clean: no run has the checkpoint 'first'; there are best, last, run"):
        columns_of(DATA, ["first:clean"], ["pgd"], "last")
    with pytest.raises(ValueError, match="x may be a/x or b/x"):
        full_name("x", ["a/x", "b/x"])


def test_rows_are_ordered_and_chosen() -> None:
    assert [row.name for row in rows_of(DATA)] == ["none x none", "none x l2", "pgd x none", "pgd x l2"]
    assert [row.name for row in rows_of(DATA, "penalty")] == ["none x none", "pgd x none", "none x l2", "pgd x l2"]
    assert [row.name for row in rows_of(DATA, ["pgd x none", "none x *"])] == ["pgd x none", "none x none", "none x l2"]
    assert [row.seeds for row in rows_of(DATA)] == [2, 1, 2, 0]
    for wrong in ("clean", ["pgd x l9"]):
        with pytest.raises(ValueError, match=r"table\.rows"):
            rows_of(DATA, wrong)


def test_cells_of_one_name_are_chosen_with_or_without_their_setting() -> None:
    runs = [run("pgd", "l2", 0, 0.9, 0.7, digest=str(s), config=RUNS[0].config | {"strength": s}) for s in (1, 2)]
    data = frame(runs, "standard")
    assert len(rows_of(data, ["pgd x l2"])) == 2
    assert [row.setting for row in rows_of(data, ["* (strength=2)"])] == ["strength=2"]


def test_the_best_mean_alone_is_marked() -> None:
    data = frame([*RUNS, run("pgd", "l2", 0, 0.96, 0.7)], "standard")
    rows = ["* x none", "pgd x l2"]
    shown = tabulate(data, ["clean", "pgd", "gradient_evaluations", "near_zero"], ["pgd"], rows=rows).text(mark=True)
    assert shown["clean %"].tolist() == ["**97.0 ± 1.4**", "91.0 ± 1.4", "96.0"]
    assert shown["PGD %"].tolist() == ["15.0 ± 7.1", "**71.0 ± 1.4**", "70.0"], "however small its lead"
    assert not shown["gradients per example"].str.contains("*", regex=False).any(), "all are the same"
    assert not shown["weights near zero %"].str.contains("*", regex=False).any()


@pytest.mark.parametrize("metric", METRICS)
def test_the_better_direction_is_the_one_that_is_mirrored(metric: str) -> None:
    assert {"max": "higher", "min": "lower", None: None}[direction(metric)] == METRICS[metric].better


def test_what_is_lower_is_marked_where_that_is_better() -> None:
    runs = [run("none", "none", 0, 0.9, 0.1, cost={"seconds": 1.0}), run("pgd", "none", 0, 0.9, 0.7, cost={"seconds": 4.0})]
    shown = tabulate(frame(runs, "standard"), ["seconds"], ["pgd"]).text(mark=True)
    assert shown["training s"].tolist() == ["**1.0**", "4.0"]


def test_shares_and_precision() -> None:
    shown = tabulate(DATA, ["clean", "seconds"], ["pgd"], unit="share").text()
    assert shown["clean"].tolist()[2] == "0.910 ± 0.014" and shown["training s"].tolist()[2] == "2.0 ± 0.0"
    assert tabulate(DATA, ["clean"], ["pgd"]).text(3)["clean %"].tolist()[1] == "97.000"


@pytest.mark.parametrize(
    ("key", "value"),
    [("precision", -1), ("unit", "permille"), ("checkpoint", "first"), ("columns", "clean"), ("published", "rice2020")],
)
def test_a_wrong_setting_is_named(key: str, value: object) -> None:
    settings = OmegaConf.merge(SETTINGS, {"table": {"tables": {"accuracy": ["clean"]}}})
    OmegaConf.update(settings, f"table.{key}", value, merge=False)
    with pytest.raises(ValueError, match=rf"^table\.{key}={value}: .*should be"):
        TableOptions.of(settings)  # type: ignore[arg-type]


def test_bold_in_latex() -> None:
    tex = to_latex(pd.DataFrame([{"attack": "pgd", "penalty": "a^b<c", "clean %": "**97.0 ± 1.0** ✓", "n": "3"}]), "c")
    assert r"\textbf{97.0 $\pm$ 1.0} $\surd$" in tex and r"a\textasciicircum{}b$<$c" in tex and "*" not in tex


def test_every_table_is_markdown_latex_and_csv(tmp_path: Path) -> None:
    make_report(written(tmp_path, RUNS), tmp_path / "results")
    files = {path.name for path in (tmp_path / "results/tables").iterdir()}
    names = ("accuracy", "model", "cost", "comparison", "effects", "claims", "front")
    assert files == {f"{name}.{end}" for name in names for end in ("md", "tex", "csv")}
    numbers = pd.read_csv(tmp_path / "results/tables/accuracy.csv", keep_default_na=False)
    row = numbers[(numbers.attack == "pgd") & (numbers.penalty == "none")].iloc[0]
    assert float(row["last:test/clean mean"]) == pytest.approx(0.91) and row["last:test/clean n"] == 2


def test_figures_of_the_comparison() -> None:
    runs = [
        *(run("none", "none", s, 0.9, 0.1 + s / 100, kind="standard", cost={"seconds": 2.0}) for s in (0, 1)),
        *(run("pgd", "none", s, 0.8, 0.6 + s / 50, kind="adversarial", cost={"seconds": 8.0 + s}) for s in (0, 1)),
        run("pgd", "l2", 0, 0.85, 0.65, kind="combined", cost={"seconds": 8.0}),
    ]
    data = frame(runs, "standard")
    found = measured(PairedRuns.of(data), Kind.ADVERSARIAL, Kind.STANDARD)
    assert found["robust"][:2] == pytest.approx((0.505, np.std([0.5, 0.51], ddof=1))) and found["robust"].n == 2
    assert found["clean"].mean == pytest.approx(-0.1) and found["seconds"].mean == pytest.approx(4.25)
    assert "gradients" not in found
    texts, numbers = comparison(PairedRuns.of(data))
    assert "+50.5 ± 0.7 points" in str(texts.loc[0, "impact on the model"]) and NOT_MEASURED in str(texts.loc[0, "cost"])
    assert str(texts.loc[1, "impact on the model"]).count(NOT_MEASURED) == 3, "no run is regularized"
    assert "clean accuracy: +5.0 points" in str(texts.loc[2, "impact on the model"])
    assert set(numbers.kind) == {"adversarial", "combined"}


def test_figures_of_the_comparison_are_those_of_the_claims() -> None:
    """Noise is no adversary, and a seed that only some cells have would make another mean of other cells."""
    cells: Cells = {("none", "none"): [0.1, 0.1, 0.1], ("pgd", "none"): [0.7, 0.7, 0.7], ("noise", "none"): [0.1, 0.1, 0.1]}
    cells |= {("none", "l1"): [0.1, 0.1, 0.1], ("none", "l2"): [0.7]}
    runs = PairedRuns.of(numbers(cells))
    claims = judge(load(), runs, "s").table.set_index("claim")
    assert measured(runs, Kind.ADVERSARIAL, Kind.STANDARD)["robust"] == pytest.approx((0.6, 0, 3))
    raised, held = (claims.loc[name] for name in ("adversarial_raises_robustness", "regularization_does_not_defend"))
    assert (raised["mean"], raised["n"]) == (pytest.approx(0.6), 3)
    regularized = measured(runs, Kind.REGULARIZED, Kind.STANDARD)["robust"]
    assert regularized.mean == pytest.approx(0.3) and regularized.n == 1 and math.isnan(regularized.sd)
    assert (held["mean"], held["n"]) == (pytest.approx(0.3), 1)
    cards = {card.kind: card for card in infographic(runs)}
    assert cards[Kind.ADVERSARIAL].cells == 1 and cards[Kind.ADVERSARIAL].bars[0].text == "70.0 ± 0.0 %"
    assert cards[Kind.REGULARIZED].cells == 2 and cards[Kind.REGULARIZED].bars[0].text == "40.0 %"


def test_a_figure_that_there_is_not_is_named() -> None:
    (row, *_) = kind_comparison.load()
    with pytest.raises(ValueError, match="adversarial training: 'speed'; in braces can stand robust, clean"):
        comparison(PairedRuns.of(DATA), [row._replace(said={"cost": "{speed}"})])


def test_published_numbers_stand_below_their_cells() -> None:
    papers = published_numbers.load(["rice2020"])
    made = tabulate(DATA, ["clean", "best:pgd", "worst_case"], ["pgd"], published=papers)
    shown = made.text(mark=True)
    place = [line.label for line in made.lines].index("none", 1) + 1
    assert made.lines[place].source == "rice2020"
    assert shown.iloc[place].tolist()[2:] == ["84.8", "53.5 †", "–", "1"], "100 - 15.21, and 100 - 46.51"
    numbers = made.numbers()
    assert numbers["best:test/pgd selected on test"].tolist() == (numbers.source != "measured").tolist()
    assert len(made.lines) == 4 + 1, "beside pgd x none; there are numbers for pgd x l2, which was not run"
    text = papers[0].describe(RUNS)
    assert "robust_overfitting" in text and "This study has data.source.name=None" in text
    assert not papers[0].fits(RUNS[:2]) and "no cell of this study" in papers[0].unmatched()


def test_an_experiment_names_its_papers(tmp_path: Path) -> None:
    runs = [run("pgd", "none", s, 0.9, 0.7, config=RUNS[0].config | {"published": ["rice2020"]}) for s in (0, 1)]
    make_report(written(tmp_path, runs), tmp_path / "results")
    text = (tmp_path / "results/tables/accuracy.md").read_text()
    assert "Rice et al. 2020" in text and published_numbers.LEGEND not in text
    assert "rice2020overfitting" in (tmp_path / "results/references.bib").read_text()


@pytest.mark.parametrize("path", sorted(Path(CONF, "report/published").glob("*.yaml")), ids=lambda path: path.stem)
def test_published_data_are_plausible(path: Path) -> None:
    (paper,) = published_numbers.load([path.stem])
    assert paper.cite in {reference.key for reference in references()}
    for entry in paper.entries:
        assert all(names == " + ".join(sorted(names.split(" + "))) for names in entry.penalties), "as cells are named"
        assert len({(value.metric, value.checkpoint) for value in entry.values}) == len(entry.values)
        assert all(0 < value.value < 100 for value in entry.values if value.metric.startswith("test/"))
    assert bool(paper.spread_over) == any(value.sd is not None for entry in paper.entries for value in entry.values)


def test_published_names_and_files_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no rice2021; there are .*rice2020"):
        published_numbers.load(["rice2021"])
    (tmp_path / "mine.yaml").write_text("paper: mine\n")
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        published_numbers.load(["mine"], tmp_path)


# What is nobody's paper: controls, common practice, and what was thought up here.
OURS = {
    "attack:none",
    "attack:noise",
    "penalty:none",
    "penalty:controlled",
    "penalty:dynamic",
    "penalty:crop_flip",
    "penalty:l2",
    "penalty:sgd_decay",
}


def test_every_option_has_its_paper() -> None:
    known = frozenset().union(*(reference.methods for reference in references()))
    options = {f"{group}:{path.stem}" for group in ("attack", "penalty") for path in Path(CONF, group).glob("*.yaml")}
    assert options - known == OURS | {"attack:torchattacks"}, "which goes by its class"
    suites: list[Any] = [OmegaConf.load(path) for path in Path(CONF, "evaluation").glob("*.yaml")]
    evaluated = {f"evaluation:{name}" for suite in suites for name in suite.get("attacks") or {}}
    assert evaluated and evaluated <= known


def test_references_are_whole() -> None:
    found = references()
    assert (
        len({reference.key for reference in found})
        == len(found)
        == Path(CONF, "report/references.bib").read_text().count("\n@")
    )
    for reference in found:
        assert all(f"  {field} = {{" in reference.text for field in ("author", "title", "year")), reference.key
        assert re.search(r"  (eprint|doi|url) = ", reference.text), reference.key
        assert reference.text.count("{") == reference.text.count("}") and "methods" not in reference.text


def test_the_papers_of_a_study() -> None:
    used = methods_of([run("trades", "l1 + dropout", 0, 0.9, 0.7)], ["standard-0"])
    assert [paper.key for paper in cited(used)] == [
        "madry2018towards",
        "zhang2019theoretically",
        "srivastava2014dropout",
        "tibshirani1996regression",
    ]
    assert r"trades~\cite{zhang2019theoretically}, l1~\cite{tibshirani1996regression}" in citations(used)
    assert citations(["attack:noise"]) == ""


def test_a_table_is_set_on_the_command_line(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    written(tmp_path / "outputs", RUNS)
    wanted = ["table.columns=[clean,pgd]", "table.rows=[pgd x none]", "table.unit=share", "table.precision=4"]
    status, output = temper("report", "study=study", *wanted)
    assert status == 0 and "0.9100 ± 0.0141" in output, output
    status, output = temper("report", "study=study", "table.columns=[clean,speed]")
    assert status != 0 and "no run has the metric speed" in output


@pytest.mark.parametrize(
    ("metric", "label", "factor", "better"),
    [
        ("test/loss", "loss", 1, "lower"),
        ("val/loss", "val loss", 1, "lower"),
        ("test/pgd_loss", "PGD loss", 1, "lower"),
        ("best:test/pgd_loss", "PGD loss (best)", 1, "lower"),
        ("best:test/clean", "clean % (best)", 100, "higher"),
        ("val/loss_instability", "loss instability %", 100, "lower"),
    ],
)
def test_a_loss_is_no_percentage(metric: str, label: str, factor: float, better: str) -> None:
    shown = describe(metric)
    assert (shown.label, shown.factor, shown.better) == (label, factor, better)


def test_effects_and_claims_are_told_in_the_unit_that_is_asked_for(
    temper: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    written(tmp_path / "outputs", RUNS)
    wanted = ["table.unit=share", "table.precision=4", "effects.metrics=[best:worst_case]", "figures=[]"]
    status, output = temper("report", "study=study", *wanted)
    assert status == 0, output
    effects, claims = ((tmp_path / f"results/study/tables/{name}.md").read_text() for name in ("effects", "claims"))
    assert "worst case (best)" in effects and "+0.5600 [" in effects and "+0.5600 [" in claims
    page = (tmp_path / "results/study/index.html").read_text()
    assert "+0.5600 [" in page and "+56.0 [" not in page
    assert escape(f"temper-report study=study suite=standard {shlex.join(wanted)}") in page, "what makes this report again"


def test_metrics_of_effects_that_there_are_not(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    written(tmp_path / "outputs", RUNS)
    status, output = temper("report", "study=study", "effects.metrics=[test/typo]", "figures=[]")
    assert status != 0 and "effects.metrics: no run has the metric test/typo" in output


def test_every_figure_stands_in_the_config() -> None:
    said = Path(CONF, "report.yaml").read_text()
    assert all(re.search(rf"\b{name}\b", said[said.index("# Which figures") :]) for name in FIGURES)
