"""What can be concluded from a study, as parts of its report: effects, claims and the front."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig

from temper.report.claims.claim import load
from temper.report.claims.judgement import Judged, judge, remarks
from temper.report.records.load import folder_of
from temper.report.records.per_example import outcomes
from temper.report.records.run_setup import Setup
from temper.report.statistics.comparability import not_compared
from temper.report.statistics.effects import effects
from temper.report.statistics.factorial import factors
from temper.report.statistics.mean_and_sd import MISSING
from temper.report.statistics.metric_catalogue import METRICS, Style, full_name
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.statistics.pareto import GOALS, front
from temper.report.tables import formatting
from temper.report.tables.markdown_latex import to_markdown, words
from temper.report.tables.table_files import ReportTable
from temper.runs.record import RunRecord

RESAMPLED = ("test/clean", "test/worst_case")
ROWS = 80  # of a table that is still read
CAPTIONS = {
    "effects": "Effects: paired differences by seed, mean and 95 % t interval, effect size g, Holm's p by effect and metric",
    "claims": "Claims: what this study says of them, by 95 % t intervals over seeds",
    "front": "The front: cells that no other beats in clean accuracy, robust accuracy and cost at once",
}

PART = (
    "Part: a penalty that is combined with others, the mean over all cells that have it, each minus the same one without it."
    " Its synergy: that under the attack minus that without one."
)
UNCORRECTED = "†"
CHANCE = (
    "Chance: how often a cell is on the front when the seeds are drawn anew. Cells are compared on the same seeds; front.csv"
    " lists the others, and the cells that lack one of these seeds."
)
WORDS = {"effects": 3, "claims": 3, "front": 2}  # columns that are no numbers
# What LaTeX wraps: names with their settings, and sentences.
COLUMNS = {
    "effects": f"l{words(4)}{words(2.9)}rrrrrr",
    "claims": f"{words(4.4)}{words(2.1)}{words(3.5)}{words(3.2)}rrr{words(1.2)}",
}


class Conclusions(NamedTuple):
    """Parts of a report.

    Attributes:
        files: text by the name of its file.
        tables: effects, claims and the front; those that nothing can be told of left out.
        summary: for the terminal.
        judged: the claims.
        problems: what of the runs' outcomes cannot be read, and which cells do not pair, a line each.
    """

    files: dict[str, str]
    tables: dict[str, ReportTable]
    summary: str
    judged: Judged
    problems: Sequence[str]

    @property
    def effects(self) -> pd.DataFrame:
        """Ready to print."""
        return self.tables["effects"].shown if "effects" in self.tables else pd.DataFrame()

    def to_markdown(self) -> str:
        parts: list[str] = []
        for name, caption in CAPTIONS.items():
            parts += [f"## {caption}", self.tables[name].to_markdown() if name in self.tables else "None can be told."]
        return "\n\n".join(parts) + "\n"


def conclude(
    studies: Sequence[Path],
    records: Sequence[RunRecord],
    runs: PairedRuns,
    suite: str,
    checkpoint: str,
    settings: DictConfig,
    style: Style,
) -> Conclusions:
    """From finished runs of these studies, by the claims in `settings.report`, or those of conf/report/claims.yaml.

    Args:
        runs: their numbers.
        style: how differences are shown.

    Raises:
        ValueError: `effects.metrics` names a metric that no run has.
    """
    images, problems = outcomes(records, lambda record: folder_of(record, studies), suite, checkpoint, RESAMPLED)
    sizes = {len(right) for run in images.values() for right in run.values()}
    examples = sizes.pop() if len(sizes) == 1 else None
    found = effects(runs, images, RESAMPLED, examples)
    claims = load(settings if "report" in settings else None)
    judged = judge(claims, runs, studies[0].name, examples, Setup.of(records, studies, suite))
    unbeaten = front(runs)
    metrics = [_metric(str(name), runs.metrics, checkpoint) for name in settings.effects.metrics]
    chosen = _chosen(found, metrics)
    told = {
        "effects": (_effects(chosen.head(ROWS), style), chosen, [], _about_effects(chosen, metrics, runs)),
        "claims": (_claims(judged, style), judged.table, _notes(judged), _about_claims(judged)),
        "front": (_front(unbeaten, style), unbeaten, [CHANCE], []),
    }
    return Conclusions(
        files={
            name: table.to_csv(index=False, lineterminator="\n")
            for name, table in {"effects.csv": found, "claims.csv": judged.table, "front.csv": unbeaten}.items()
        },
        tables={
            name: ReportTable(name, CAPTIONS[name], text, text, raw, WORDS[name], COLUMNS.get(name), notes=notes, about=about)
            for name, (text, raw, notes, about) in told.items()
            if len(text)
        },
        summary=f"{judged.summary()}: claims.csv",
        judged=judged,
        problems=[*problems, *not_compared(runs, records)],
    )


def _metric(name: str, there: Sequence[str], checkpoint: str) -> str:
    """The full name of a metric that is asked for, or of one at another checkpoint, such as best:test/clean."""
    said, _, short = name.rpartition(":")
    metric = full_name(short, [known.rpartition(":")[2] for known in there], key="effects.metrics")
    metric = metric if said in ("", checkpoint) else f"{said}:{metric}"
    if metric not in there and metric.rpartition(":")[2] not in METRICS:
        raise ValueError(f"effects.metrics: no run has the metric {metric}; effects.csv lists what there is")
    return metric


def _effects(chosen: pd.DataFrame, style: Style) -> pd.DataFrame:
    """In the units of their metrics, text ready to print."""
    rows = []
    for row in _rows(chosen):
        metric = style.of(row.metric, row.scale)
        factor, digits = metric.factor, metric.precision
        rows.append(
            {
                "effect": row.effect,
                "of": row.cell,
                "on": metric.label,
                "difference": formatting.interval(row.mean * factor, row.low * factor, row.high * factor, digits),
                "g": formatting.effect_size(row.g),
                "resampled": formatting.span(row.resampled_low * factor, row.resampled_high * factor, digits),
                "images ±": MISSING if pd.isna(row.images_sd) else f"{row.images_sd * factor:.{digits}f}",
                "p (Holm)": formatting.p_value(row.p_holm),
                "n": str(row.n),
            }
        )
    return pd.DataFrame(rows)


def _front(unbeaten: pd.DataFrame, style: Style) -> pd.DataFrame:
    """The cells of the front, the surest first."""
    if "front" not in unbeaten:
        return pd.DataFrame()
    rows = []
    for row in unbeaten[unbeaten.front.fillna(False)].sort_values("chance", ascending=False, kind="stable").to_dict("records"):
        named = {"attack": row["attack"], "penalty": row["penalty"] + (f" ({row['setting']})" if row["setting"] else "")}
        goals = {metric: style.of(metric, "own") for metric in GOALS if metric in row}
        told = {how.label: f"{row[metric] * how.factor:.{how.precision}f}" for metric, how in goals.items()}
        chance = MISSING if pd.isna(row["chance"]) else f"{row['chance']:.2f}"
        rows.append({**named, **told, "chance": chance, "n": str(row["n"])})
    return pd.DataFrame(rows)


def _chosen(found: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The effects that are shown, metric by metric; main effects are means of them."""
    chosen = found[found.metric.isin(metrics) & found.effect.isin(["part", "part synergy", "attack", "penalty", "synergy"])]
    return chosen.sort_values("metric", key=lambda metric: metric.map(metrics.index), kind="stable")


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    return table.itertuples()


def _claims(judged: Judged, style: Style) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for row in _rows(judged.table):
        metric = style.of(row.metric, row.scale)
        factor, digits = metric.factor, metric.precision
        first = not rows or row.claim != rows[-1]["name"]
        rows.append(
            {
                "name": row.claim,
                "claim": row.sentence if first else "",
                "verdict": _marked(row.verdict, row.verdict_holm) if first else "",
                "by": ("" if row.found == row.verdict else f"{_marked(row.found, row.found_holm)}: ")
                + f"{metric.label} {row.direction}"
                + (f" by {row.margin * factor:+g}" if row.margin else ""),
                "difference": formatting.interval(row.mean * factor, row.low * factor, row.high * factor, digits),
                "g": formatting.effect_size(row.g),
                "p (Holm)": formatting.p_value(row.p_holm),
                "n": str(row.n),
                "seeds to decide": formatting.seeds(row.seeds_needed),
            }
        )
    return pd.DataFrame(rows).drop(columns="name", errors="ignore")


def _marked(verdict: str, corrected: str) -> str:
    return str(verdict) if verdict == corrected else f"{verdict} {UNCORRECTED}"


def _about_effects(chosen: pd.DataFrame, metrics: Sequence[str], runs: PairedRuns) -> list[str]:
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
            factored = table.assign(df=table.df.map("{:.0f}".format), sum_sq=table.sum_sq.map("{:.4f}".format))
            factored = factored.assign(
                eta_sq=table.eta_sq.map("{:.2f}".format), F=table.F.map("{:.1f}".format), p=table.p.map(formatting.p_value)
            )
            said += [f"What explains the spread of {metric} (Type II):", to_markdown(factored)]
    return said


def _notes(judged: Judged) -> list[str]:
    marked = (judged.table.found != judged.table.found_holm).any()
    return [f"{UNCORRECTED} Not after Holm's correction over all claims."] if marked else []


def _about_claims(judged: Judged) -> list[str]:
    table = judged.table
    lacking = list(dict.fromkeys(f"- {row.sentence} Lacks {row.lacks}." for row in _rows(table[table.lacks != ""])))
    said = [(parts.sentence.iloc[0], remarks(parts)) for _, parts in table.groupby("claim", sort=False)]
    notes = [f"- {sentence} {remark}" for sentence, remark in said if remark]
    return ["\n".join(lines) for lines in (lacking, notes) if lines]
