"""What can be concluded from a study, as parts of its report: effects and claims as Markdown, LaTeX and CSV."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig

from temper.records import RunRecord
from temper.report.apart import not_compared
from temper.report.bootstrap import outcomes
from temper.report.claims import Judged, judge, load
from temper.report.columns import full_name, on_scale
from temper.report.effects import effects
from temper.report.factorial import factors
from temper.report.markup import words
from temper.report.paired import Runs
from temper.report.pareto import front
from temper.report.setup import Setup
from temper.report.studies import folder_of
from temper.report.table import MISSING, to_latex, to_markdown

RESAMPLED = ("test/clean", "test/worst_case")
ROWS = 80  # of a table that is still read
CAPTIONS = {
    "effects": "Effects: paired differences by seed, mean and 95 % t interval, effect size g, Holm's p by effect and metric",
    "claims": "Claims: what this study says of them, by 95 % t intervals over seeds",
}

PART = (
    "Part: a penalty that is combined with others, the mean over all cells that have it, each minus the same one without it."
    " Its synergy: that under the attack minus that without one."
)
UNCORRECTED = "†"
NOTES = {"claims": f" {UNCORRECTED} Not after Holm's correction over all claims."}
# What LaTeX wraps: names with their settings, and sentences.
COLUMNS = {
    "effects": f"l{words(4)}{words(2.9)}rrrrrr",
    "claims": f"{words(4.4)}{words(2.1)}{words(3.5)}{words(3.2)}rrr{words(1.2)}",
}


class Conclusions(NamedTuple):
    """Parts of a report.

    Attributes:
        files: text by the name of its file.
        markdown: of table.md.
        latex: of table.tex.
        summary: for the terminal.
        judged: the claims.
        effects: ready to print.
        problems: what of the runs' outcomes cannot be read, and which cells do not pair, a line each.
    """

    files: dict[str, str]
    markdown: str
    latex: str
    summary: str
    judged: Judged
    effects: pd.DataFrame
    problems: Sequence[str]


def conclude(
    studies: Sequence[Path],
    records: Sequence[RunRecord],
    runs: Runs,
    suite: str,
    checkpoint: str,
    settings: DictConfig,
) -> Conclusions:
    """From finished runs of these studies, by the claims in `settings.report`, or those of conf/report/claims.yaml.

    Args:
        runs: their numbers.
    """
    images, problems = outcomes(records, lambda record: folder_of(record, studies), suite, checkpoint, RESAMPLED)
    sizes = {len(right) for run in images.values() for right in run.values()}
    examples = sizes.pop() if len(sizes) == 1 else None
    found = effects(runs, images, RESAMPLED, examples)
    claims = load(settings if "report" in settings else None)
    judged = judge(claims, runs, studies[0].name, examples, Setup.of(records, studies, suite))
    metrics = [full_name(str(name), runs.metrics, key="effects.metrics") for name in settings.effects.metrics]
    chosen = _chosen(found, metrics)
    shown = {"effects": _effects(chosen.head(ROWS)), "claims": _claims(judged)}
    parts: list[str] = []
    for name, table in shown.items():
        parts += [f"## {CAPTIONS[name]}", to_markdown(table) if len(table) else "None can be told."]
        parts += _about_effects(chosen, metrics, runs) if name == "effects" else _about_claims(judged)
    return Conclusions(
        files={
            name: table.to_csv(index=False, lineterminator="\n")
            for name, table in {"effects.csv": found, "claims.csv": judged.table, "front.csv": front(runs)}.items()
        },
        markdown="\n\n".join(parts) + "\n",
        latex="\n".join(
            to_latex(table, f"{CAPTIONS[name]}.{NOTES.get(name, '')}", columns=COLUMNS[name], label=f"tab:{name}")
            for name, table in shown.items()
            if len(table)
        ),
        summary=f"{judged.summary()}: claims.csv",
        judged=judged,
        effects=shown["effects"],
        problems=[*problems, *not_compared(runs, records)],
    )


def _effects(chosen: pd.DataFrame) -> pd.DataFrame:
    """In the units of their metrics, text ready to print."""
    rows = []
    for row in _rows(chosen):
        shown = on_scale(row.metric, row.scale)
        factor, digits = shown.factor, shown.precision
        rows.append(
            {
                "effect": row.effect,
                "of": row.cell,
                "on": shown.label,
                "difference": _interval(row.mean * factor, row.low * factor, row.high * factor, digits),
                "g": _number(row.g),
                "resampled": _range(row.resampled_low * factor, row.resampled_high * factor, digits),
                "images ±": MISSING if pd.isna(row.images_sd) else f"{row.images_sd * factor:.{digits}f}",
                "p (Holm)": _p(row.p_holm),
                "n": str(row.n),
            }
        )
    return pd.DataFrame(rows)


def _chosen(found: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The effects that are shown, metric by metric; main effects are means of them."""
    chosen = found[found.metric.isin(metrics) & found.effect.isin(["part", "part synergy", "attack", "penalty", "synergy"])]
    return chosen.sort_values("metric", key=lambda metric: metric.map(metrics.index), kind="stable")


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    return table.itertuples()


def _claims(judged: Judged) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for row in _rows(judged.table):
        shown = on_scale(row.metric, row.scale)
        factor, digits = shown.factor, shown.precision
        first = not rows or row.claim != rows[-1]["name"]
        rows.append(
            {
                "name": row.claim,
                "claim": row.sentence if first else "",
                "verdict": _marked(row.verdict, row.verdict_holm) if first else "",
                "by": ("" if row.found == row.verdict else f"{_marked(row.found, row.found_holm)}: ")
                + f"{shown.label} {row.direction}"
                + (f" by {row.margin * factor:+g}" if row.margin else ""),
                "difference": _interval(row.mean * factor, row.low * factor, row.high * factor, digits),
                "g": _number(row.g),
                "p (Holm)": _p(row.p_holm),
                "n": str(row.n),
                "seeds to decide": MISSING if pd.isna(row.seeds_needed) else _seeds(row.seeds_needed),
            }
        )
    return pd.DataFrame(rows).drop(columns="name", errors="ignore")


def _marked(verdict: str, corrected: str) -> str:
    return str(verdict) if verdict == corrected else f"{verdict} {UNCORRECTED}"


def _about_effects(chosen: pd.DataFrame, metrics: Sequence[str], runs: Runs) -> list[str]:
    said = [
        "Resampled: the 95 % interval of a bootstrap of seeds, then images; images ±: the standard error that the sampling of"
        " test images alone makes, the seeds held fixed. One seed gives no interval."
    ]
    if chosen.effect.eq("part").any():
        said.append(PART)
    left = len(chosen) - ROWS
    said += [f"{left} more of these rows are in effects.csv, beside all other metrics."] if left > 0 else []
    flags = sorted({f"{row.effect} of {row.cell}, {row.metric}: {row.note}" for row in _rows(chosen) if row.note})
    said += ["To be read with care:\n\n" + "\n".join(f"- {flag}" for flag in flags)] if flags else []
    for metric in metrics:
        table = factors(runs, metric)
        if table is not None:
            shown = table.assign(df=table.df.map("{:.0f}".format), sum_sq=table.sum_sq.map("{:.4f}".format))
            shown = shown.assign(eta_sq=table.eta_sq.map("{:.2f}".format), F=table.F.map("{:.1f}".format), p=table.p.map(_p))
            said += [f"What explains the spread of {metric} (Type II):", to_markdown(shown)]
    return said


def _about_claims(judged: Judged) -> list[str]:
    table = judged.table
    lacking = list(dict.fromkeys(f"- {row.sentence} Lacks {row.lacks}." for row in _rows(table[table.lacks != ""])))
    notes = [f"- {row.sentence} {row.note}" for row in _rows(table[table.note != ""].drop_duplicates("claim"))]
    marked = [NOTES["claims"].strip()] if (table.found != table.found_holm).any() else []
    return ["\n".join(lines) for lines in (marked, lacking, notes) if lines]


def _interval(mean: float, low: float, high: float, digits: int) -> str:
    if pd.isna(mean):
        return MISSING
    return f"{mean:+.{digits}f}" + ("" if pd.isna(low) else f" {_range(low, high, digits)}")


def _range(low: float, high: float, digits: int) -> str:
    return MISSING if pd.isna(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _number(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:+.1f}"


def _p(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.2g}"


def _seeds(needed: float) -> str:
    return "over 10000" if needed == float("inf") else f"{needed:.0f}"
