"""Result tables: numbers, selection of columns, rows and units, bold means, published numbers, bibliography."""

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
from temper.report.claims.claim import load_claims
from temper.report.claims.judgement import judge
from temper.report.figures.registry import FIGURES
from temper.report.page import build_cards
from temper.report.records.long_format import frame
from temper.report.statistics.metric_catalogue import METRICS, describe_metric, resolve_metric_name
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.tables import kind_comparison, published_numbers
from temper.report.tables.bibliography import citations, cited, methods_of, references
from temper.report.tables.kind_comparison import NOT_MEASURED, comparison_tables, kind_differences
from temper.report.tables.markdown_latex import to_latex
from temper.report.tables.paper_tables import TableOptions
from temper.report.tables.results_table import tabulate
from temper.report.tables.table_columns import columns_of
from temper.report.tables.table_rows import rows_of
from temper.training.wandb_logger import direction
from tests.report.statistics.test_paired_differences import Cells, numbers
from tests.report.test_pipeline import RUNS, finished_run, write_study

DATA = frame(RUNS, "standard")
SETTINGS: Any = OmegaConf.load(Path(CONF) / "report.yaml")


def test_raw_numbers_agree_with_pandas() -> None:
    rng = np.random.default_rng(0)
    runs = [finished_run(a, p, s, *rng.random(2)) for a in ("none", "pgd") for p in ("none", "l2") for s in range(4)]
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
    assert resolve_metric_name("norm", []) == "weights/norm"
    with pytest.raises(ValueError, match=r"pdg\. Did you mean pgd\?"):
        columns_of(DATA, ["pdg"], ["pgd"], "last")
    with pytest.raises(ValueError, match=r"first:clean: no run has the checkpoint 'first'\. Checkpoints: best, last, run"):
        columns_of(DATA, ["first:clean"], ["pgd"], "last")
    with pytest.raises(ValueError, match="x is ambiguous: a/x or b/x"):
        resolve_metric_name("x", ["a/x", "b/x"])


def test_rows_are_ordered_and_selected() -> None:
    assert [row.name for row in rows_of(DATA)] == ["none x none", "none x l2", "pgd x none", "pgd x l2"]
    assert [row.name for row in rows_of(DATA, "penalty")] == ["none x none", "pgd x none", "none x l2", "pgd x l2"]
    assert [row.name for row in rows_of(DATA, ["pgd x none", "none x *"])] == ["pgd x none", "none x none", "none x l2"]
    assert [row.seeds for row in rows_of(DATA)] == [2, 1, 2, 0]
    for wrong in ("clean", ["pgd x l9"]):
        with pytest.raises(ValueError, match=r"table\.rows"):
            rows_of(DATA, wrong)


def test_cells_are_selected_with_or_without_their_setting() -> None:
    runs = [finished_run("pgd", "l2", 0, 0.9, 0.7, digest=str(s), config=RUNS[0].config | {"strength": s}) for s in (1, 2)]
    data = frame(runs, "standard")
    assert len(rows_of(data, ["pgd x l2"])) == 2
    assert [row.setting for row in rows_of(data, ["* (strength=2)"])] == ["strength=2"]


def test_best_mean_of_a_column_is_bold() -> None:
    data = frame([*RUNS, finished_run("pgd", "l2", 0, 0.96, 0.7)], "standard")
    rows = ["* x none", "pgd x l2"]
    shown = tabulate(data, ["clean", "pgd", "gradient_evaluations", "near_zero"], ["pgd"], rows=rows).text(mark=True)
    assert shown["clean %"].tolist() == ["**97.0 ± 1.4**", "91.0 ± 1.4", "96.0"]
    assert shown["PGD %"].tolist() == ["15.0 ± 7.1", "**71.0 ± 1.4**", "70.0"], "bold regardless of significance"
    assert not shown["gradients per example"].str.contains("*", regex=False).any(), "all means are equal"
    assert not shown["weights near zero %"].str.contains("*", regex=False).any()


@pytest.mark.parametrize("metric", METRICS)
def test_direction_of_a_metric_agrees_with_wandb(metric: str) -> None:
    assert {"max": "higher", "min": "lower", None: None}[direction(metric)] == METRICS[metric].better


def test_lowest_mean_is_bold_where_lower_is_better() -> None:
    runs = [
        finished_run("none", "none", 0, 0.9, 0.1, cost={"seconds": 1.0}),
        finished_run("pgd", "none", 0, 0.9, 0.7, cost={"seconds": 4.0}),
    ]
    shown = tabulate(frame(runs, "standard"), ["seconds"], ["pgd"]).text(mark=True)
    assert shown["training s"].tolist() == ["**1.0**", "4.0"]


def test_fractions_and_precision() -> None:
    shown = tabulate(DATA, ["clean", "seconds"], ["pgd"], unit="share").text()
    assert shown["clean"].tolist()[2] == "0.910 ± 0.014" and shown["training s"].tolist()[2] == "2.0 ± 0.0"
    assert tabulate(DATA, ["clean"], ["pgd"]).text(3)["clean %"].tolist()[1] == "97.000"


@pytest.mark.parametrize(
    ("key", "value"),
    [("precision", -1), ("unit", "permille"), ("checkpoint", "first"), ("columns", "clean"), ("published", "rice2020")],
)
def test_invalid_option_is_reported(key: str, value: object) -> None:
    settings = OmegaConf.merge(SETTINGS, {"table": {"tables": {"accuracy": ["clean"]}}})
    OmegaConf.update(settings, f"table.{key}", value, merge=False)
    with pytest.raises(ValueError, match=rf"^table\.{key}={value}: .*should be"):
        TableOptions.of(settings)  # type: ignore[arg-type]


def test_bold_in_latex() -> None:
    tex = to_latex(pd.DataFrame([{"attack": "pgd", "penalty": "a^b<c", "clean %": "**97.0 ± 1.0** ✓", "n": "3"}]), "c")
    assert r"\textbf{97.0 $\pm$ 1.0} $\surd$" in tex and r"a\textasciicircum{}b$<$c" in tex and "*" not in tex


def test_every_table_is_written_as_markdown_latex_and_csv(tmp_path: Path) -> None:
    make_report(write_study(tmp_path, RUNS), tmp_path / "results")
    files = {path.name for path in (tmp_path / "results/tables").iterdir()}
    names = ("accuracy", "model", "cost", "comparison", "effects", "claims", "front")
    assert files == {f"{name}.{end}" for name in names for end in ("md", "tex", "csv")}
    numbers = pd.read_csv(tmp_path / "results/tables/accuracy.csv", keep_default_na=False)
    row = numbers[(numbers.attack == "pgd") & (numbers.penalty == "none")].iloc[0]
    assert float(row["last:test/clean mean"]) == pytest.approx(0.91) and row["last:test/clean n"] == 2


def test_comparison_figures() -> None:
    runs = [
        *(finished_run("none", "none", s, 0.9, 0.1 + s / 100, kind="standard", cost={"seconds": 2.0}) for s in (0, 1)),
        *(finished_run("pgd", "none", s, 0.8, 0.6 + s / 50, kind="adversarial", cost={"seconds": 8.0 + s}) for s in (0, 1)),
        finished_run("pgd", "l2", 0, 0.85, 0.65, kind="combined", cost={"seconds": 8.0}),
    ]
    data = frame(runs, "standard")
    found = kind_differences(PairedRuns.of(data), Kind.ADVERSARIAL, Kind.STANDARD)
    assert found["robust"][:2] == pytest.approx((0.505, np.std([0.5, 0.51], ddof=1))) and found["robust"].n == 2
    assert found["clean"].mean == pytest.approx(-0.1) and found["seconds"].mean == pytest.approx(4.25)
    assert "gradients" not in found
    texts, numbers = comparison_tables(PairedRuns.of(data))
    assert "+50.5 ± 0.7 points" in str(texts.loc[0, "impact on the model"]) and NOT_MEASURED in str(texts.loc[0, "cost"])
    assert str(texts.loc[1, "impact on the model"]).count(NOT_MEASURED) == 3, "no regularized run"
    assert "clean accuracy: +5.0 points" in str(texts.loc[2, "impact on the model"])
    assert set(numbers.kind) == {"adversarial", "combined"}


def test_comparison_figures_agree_with_the_claims() -> None:
    """Noise does not count as an attack, and seeds that some cells lack are left out."""
    cells: Cells = {("none", "none"): [0.1, 0.1, 0.1], ("pgd", "none"): [0.7, 0.7, 0.7], ("noise", "none"): [0.1, 0.1, 0.1]}
    cells |= {("none", "l1"): [0.1, 0.1, 0.1], ("none", "l2"): [0.7]}
    runs = PairedRuns.of(numbers(cells))
    claims = judge(load_claims(), runs, "s").table.set_index("claim")
    assert kind_differences(runs, Kind.ADVERSARIAL, Kind.STANDARD)["robust"] == pytest.approx((0.6, 0, 3))
    raised, held = (claims.loc[name] for name in ("adversarial_raises_robustness", "regularization_does_not_defend"))
    assert (raised["mean"], raised["n"]) == (pytest.approx(0.6), 3)
    regularized = kind_differences(runs, Kind.REGULARIZED, Kind.STANDARD)["robust"]
    assert regularized.mean == pytest.approx(0.3) and regularized.n == 1 and math.isnan(regularized.sd)
    assert (held["mean"], held["n"]) == (pytest.approx(0.3), 1)
    cards = {card.kind: card for card in build_cards(runs)}
    assert cards[Kind.ADVERSARIAL].cells == 1 and cards[Kind.ADVERSARIAL].bars[0].text == "70.0 ± 0.0 %"
    assert cards[Kind.REGULARIZED].cells == 2 and cards[Kind.REGULARIZED].bars[0].text == "40.0 %"


def test_unknown_placeholder_is_reported() -> None:
    (row, *_) = kind_comparison.load()
    with pytest.raises(ValueError, match=r"adversarial training: 'speed' is not a placeholder\. Use robust, clean"):
        comparison_tables(PairedRuns.of(DATA), [row._replace(sentences={"cost": "{speed}"})])


def test_published_numbers_are_below_their_cells() -> None:
    papers = published_numbers.load(["rice2020"])
    table = tabulate(DATA, ["clean", "best:pgd", "worst_case"], ["pgd"], published=papers)
    shown = table.text(mark=True)
    place = [line.label for line in table.lines].index("none", 1) + 1
    assert table.lines[place].source == "rice2020"
    assert shown.iloc[place].tolist()[2:] == ["84.8", "53.5 †", "–", "1"], "100 - 15.21, and 100 - 46.51"
    numbers = table.numbers()
    assert numbers["best:test/pgd selected on test"].tolist() == (numbers.source != "measured").tolist()
    assert len(table.lines) == 4 + 1, "below pgd x none; pgd x l2 has published numbers but was not run"
    text = papers[0].describe(RUNS)
    assert "robust_overfitting" in text and "This study has data.source.name=None" in text
    assert not papers[0].matches_any(RUNS[:2]) and "no cell of this study" in papers[0].unmatched_note()


def test_experiment_lists_its_published_numbers(tmp_path: Path) -> None:
    runs = [finished_run("pgd", "none", s, 0.9, 0.7, config=RUNS[0].config | {"published": ["rice2020"]}) for s in (0, 1)]
    make_report(write_study(tmp_path, runs), tmp_path / "results")
    text = (tmp_path / "results/tables/accuracy.md").read_text()
    assert "Rice et al. 2020" in text and published_numbers.LEGEND not in text
    assert "rice2020overfitting" in (tmp_path / "results/references.bib").read_text()


@pytest.mark.parametrize("path", sorted(Path(CONF, "report/published").glob("*.yaml")), ids=lambda path: path.stem)
def test_published_data_are_plausible(path: Path) -> None:
    (paper,) = published_numbers.load([path.stem])
    assert paper.cite in {reference.key for reference in references()}
    for entry in paper.entries:
        assert all(names == " + ".join(sorted(names.split(" + "))) for names in entry.penalties), "same order as in cell names"
        assert len({(value.metric, value.checkpoint) for value in entry.values}) == len(entry.values)
        assert all(0 < value.value < 100 for value in entry.values if value.metric.startswith("test/"))
    assert bool(paper.spread_over) == any(value.sd is not None for entry in paper.entries for value in entry.values)


def test_invalid_published_names_and_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rice2021 does not exist\. Available: .*rice2020"):
        published_numbers.load(["rice2021"])
    (tmp_path / "mine.yaml").write_text("paper: mine\n")
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        published_numbers.load(["mine"], tmp_path)


# Methods without a paper: controls, common practice, and methods of this project.
WITHOUT_PAPER = {
    "attack:none",
    "attack:noise",
    "penalty:none",
    "penalty:controlled",
    "penalty:dynamic",
    "penalty:crop_flip",
    "penalty:l2",
    "penalty:sgd_decay",
}


def test_every_option_has_a_paper() -> None:
    known = frozenset().union(*(reference.methods for reference in references()))
    options = {f"{group}:{path.stem}" for group in ("attack", "penalty") for path in Path(CONF, group).glob("*.yaml")}
    assert options - known == WITHOUT_PAPER | {"attack:torchattacks"}, "referenced by its class"
    suites: list[Any] = [OmegaConf.load(path) for path in Path(CONF, "evaluation").glob("*.yaml")]
    evaluated = {f"evaluation:{name}" for suite in suites for name in suite.get("attacks") or {}}
    assert evaluated and evaluated <= known


def test_references_are_complete() -> None:
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


def test_papers_of_a_study() -> None:
    used = methods_of([finished_run("trades", "l1 + dropout", 0, 0.9, 0.7)], ["standard-0"])
    assert [paper.key for paper in cited(used)] == [
        "madry2018towards",
        "zhang2019theoretically",
        "srivastava2014dropout",
        "tibshirani1996regression",
    ]
    assert r"trades~\cite{zhang2019theoretically}, l1~\cite{tibshirani1996regression}" in citations(used)
    assert citations(["attack:noise"]) == ""


def test_table_is_configured_on_the_command_line(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    write_study(tmp_path / "outputs", RUNS)
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
def test_losses_are_not_percentages(metric: str, label: str, factor: float, better: str) -> None:
    shown = describe_metric(metric)
    assert (shown.label, shown.factor, shown.better) == (label, factor, better)


def test_effects_and_claims_use_the_configured_unit(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    write_study(tmp_path / "outputs", RUNS)
    wanted = ["table.unit=share", "table.precision=4", "effects.metrics=[best:worst_case]", "figures=[]"]
    status, output = temper("report", "study=study", *wanted)
    assert status == 0, output
    effects, claims = ((tmp_path / f"results/study/tables/{name}.md").read_text() for name in ("effects", "claims"))
    assert "worst case (best)" in effects and "+0.5600 [" in effects and "+0.5600 [" in claims
    page = (tmp_path / "results/study/index.html").read_text()
    assert "+0.5600 [" in page and "+56.0 [" not in page
    assert escape(f"temper-report study=study suite=standard {shlex.join(wanted)}") in page, "command of this report"


def test_unknown_metric_of_effects_is_reported(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    write_study(tmp_path / "outputs", RUNS)
    status, output = temper("report", "study=study", "effects.metrics=[test/typo]", "figures=[]")
    assert status != 0 and "effects.metrics: no run has the metric test/typo" in output


def test_config_lists_every_figure() -> None:
    text = Path(CONF, "report.yaml").read_text()
    assert all(re.search(rf"\b{name}\b", text[text.index("# Figures by name") :]) for name in FIGURES)
