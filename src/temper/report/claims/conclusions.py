"""Conclusions of a study for its report: effects, verdicts on claims, and the Pareto front."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from omegaconf import DictConfig

from temper.report.claims.claim import load_claims
from temper.report.claims.judgement import JudgedClaims, judge, remarks
from temper.report.records.load import find_run_folder
from temper.report.records.per_example import load_study_outcomes
from temper.report.records.run_setup import RunSetup
from temper.report.statistics.comparability import not_compared
from temper.report.statistics.effects import effects_table
from temper.report.statistics.factorial import two_way_anova
from temper.report.statistics.mean_and_sd import MISSING
from temper.report.statistics.metric_catalogue import METRICS, NumberFormat, resolve_metric_name
from temper.report.statistics.paired_differences import PairedRuns
from temper.report.statistics.pareto import OBJECTIVES, pareto_table
from temper.report.tables import formatting
from temper.report.tables.markdown_latex import text_column, to_markdown
from temper.report.tables.table_files import ReportTable
from temper.runs.record import RunRecord

RESAMPLED = ("test/clean", "test/worst_case")
MAX_ROWS = 80  # of the effects table; effects.csv has all rows
CAPTIONS = {
    "effects": "Effects: paired differences by seed, mean and 95 % t interval, effect size g, Holm's p by effect and metric",
    "claims": "Claims: verdicts by 95 % t intervals over seeds",
    "front": "Pareto front of clean accuracy, robust accuracy and cost",
}
EFFECT_LABELS = {"part": "marginal", "part synergy": "marginal synergy"}
MARGINAL_NOTE = (
    "Marginal: effect of a penalty that is combined with others, averaged over all cells that have it, each minus the same cell"
    " without it. Marginal synergy: this effect under the attack minus the one without it."
)
UNCORRECTED = "†"
FRONT_NOTE = (
    "Probability: bootstrap probability of being on the Pareto front, with resampled seeds. Cells are compared on common seeds;"
    " front.csv also lists the dominated cells and those that lack one of these seeds."
)
TEXT_COLUMNS = {"effects": 3, "claims": 3, "front": 2}  # number of leading columns that hold text
# Column types of tables with long names or sentences, which LaTeX must wrap.
LATEX_COLUMNS = {
    "effects": f"l{text_column(4)}{text_column(2.9)}rrrrrr",
    "claims": f"{text_column(4.4)}{text_column(2.1)}{text_column(3.5)}{text_column(3.2)}rrr{text_column(1.2)}",
}


class Conclusions(NamedTuple):
    """Conclusions of a study.

    Attributes:
        files: text of each CSV file, by name.
        tables: tables of effects, claims and the Pareto front, without empty ones.
        summary: summary for the terminal.
        judged: claims with their verdicts.
        problems: a line for each unreadable file of outcomes and each group of cells that cannot be compared.
    """

    files: dict[str, str]
    tables: dict[str, ReportTable]
    summary: str
    judged: JudgedClaims
    problems: Sequence[str]

    @property
    def effects(self) -> pd.DataFrame:
        """Effects as text; empty if there are none."""
        return self.tables["effects"].shown if "effects" in self.tables else pd.DataFrame()

    def to_markdown(self) -> str:
        """Return all tables as Markdown sections."""
        parts: list[str] = []
        for name, caption in CAPTIONS.items():
            parts += [f"## {caption}", self.tables[name].to_markdown() if name in self.tables else "None."]
        return "\n\n".join(parts) + "\n"


def conclude(
    studies: Sequence[Path],
    records: Sequence[RunRecord],
    runs: PairedRuns,
    suite: str,
    checkpoint: str,
    settings: DictConfig,
    style: NumberFormat,
) -> Conclusions:
    """Compute effects, verdicts and the Pareto front of finished runs.

    Args:
        studies: folders of the studies that contain the runs.
        records: finished runs.
        runs: metrics of the same runs.
        suite: name of the evaluation suite.
        checkpoint: "last" or "best".
        settings: config of the report, with the claims in `report`; without them, those of conf/report/claims.yaml are judged.
        style: format of differences.

    Raises:
        ValueError: `effects.metrics` names a metric that no run has.
    """
    outcomes, problems = load_study_outcomes(
        records, lambda record: find_run_folder(record, studies), suite, checkpoint, RESAMPLED
    )
    sizes = {len(correct) for run in outcomes.values() for correct in run.values()}
    examples = sizes.pop() if len(sizes) == 1 else None
    effects = effects_table(runs, outcomes, RESAMPLED, examples)
    claims = load_claims(settings if "report" in settings else None)
    judged = judge(claims, runs, studies[0].name, examples, RunSetup.of(records, studies, suite))
    front = pareto_table(runs)
    metrics = [_metric(str(name), runs.metrics, checkpoint) for name in settings.effects.metrics]
    chosen = _chosen_effects(effects, metrics)
    contents = {
        "effects": (_effects_text(chosen.head(MAX_ROWS), style), chosen, [], _about_effects(chosen, metrics, runs)),
        "claims": (_claims_text(judged, style), judged.table, _claim_notes(judged), _about_claims(judged)),
        "front": (_front_text(front, style), front, [FRONT_NOTE], []),
    }
    return Conclusions(
        files={
            f"{name}.csv": table.to_csv(index=False, lineterminator="\n")
            for name, table in {"effects": effects, "claims": judged.table, "front": front}.items()
        },
        tables={
            name: ReportTable(
                name, CAPTIONS[name], text, text, raw, TEXT_COLUMNS[name], LATEX_COLUMNS.get(name), notes=notes, about=about
            )
            for name, (text, raw, notes, about) in contents.items()
            if len(text)
        },
        summary=f"{judged.summary()}: claims.csv",
        judged=judged,
        problems=[*problems, *not_compared(runs, records)],
    )


def _metric(name: str, available: Sequence[str], checkpoint: str) -> str:
    """Return the full name of a configured metric, which may have a prefix for another checkpoint (best:test/clean)."""
    prefix, _, short = name.rpartition(":")
    metric = resolve_metric_name(short, [known.rpartition(":")[2] for known in available], key="effects.metrics")
    metric = metric if prefix in ("", checkpoint) else f"{prefix}:{metric}"
    if metric not in available and metric.rpartition(":")[2] not in METRICS:
        raise ValueError(f"effects.metrics: no run has the metric {metric}. See effects.csv for the available metrics.")
    return metric


def _chosen_effects(effects: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the effects to show, ordered by metric; main effects are omitted, because they are means of the others."""
    chosen = effects[effects.metric.isin(metrics) & effects.effect.isin([*EFFECT_LABELS, "attack", "penalty", "synergy"])]
    return chosen.sort_values("metric", key=lambda metric: metric.map(metrics.index), kind="stable")


def _effects_text(chosen: pd.DataFrame, style: NumberFormat) -> pd.DataFrame:
    rows = []
    for row in _rows(chosen):
        metric = style.of(row.metric, row.scale)
        factor, digits = metric.factor, metric.precision
        rows.append(
            {
                "effect": EFFECT_LABELS.get(row.effect, row.effect),
                "cell": row.cell,
                "metric": metric.label,
                "difference": formatting.interval(row.mean * factor, row.low * factor, row.high * factor, digits),
                "g": formatting.effect_size(row.g),
                "resampled": formatting.interval_bounds(row.resampled_low * factor, row.resampled_high * factor, digits),
                "images ±": MISSING if pd.isna(row.images_sd) else f"{row.images_sd * factor:.{digits}f}",
                "p (Holm)": formatting.p_value(row.p_holm),
                "n": str(row.n),
            }
        )
    return pd.DataFrame(rows)


def _claims_text(judged: JudgedClaims, style: NumberFormat) -> pd.DataFrame:
    rows: list[dict[str, str]] = []
    for row in _rows(judged.table):
        metric = style.of(row.metric, row.scale)
        factor, digits = metric.factor, metric.precision
        first = not rows or row.claim != rows[-1]["name"]
        own_verdict = "" if row.found == row.verdict else f"{_marked(row.found, row.found_holm)}: "
        direction = "higher" if row.direction == "more" else "lower"
        rows.append(
            {
                "name": row.claim,
                "claim": row.sentence if first else "",
                "verdict": _marked(row.verdict, row.verdict_holm) if first else "",
                "criterion": f"{own_verdict}{metric.label} {direction}"
                + (f" by {row.margin * factor:+g}" if row.margin else ""),
                "difference": formatting.interval(row.mean * factor, row.low * factor, row.high * factor, digits),
                "g": formatting.effect_size(row.g),
                "p (Holm)": formatting.p_value(row.p_holm),
                "n": str(row.n),
                "seeds to decide": formatting.seeds_needed(row.seeds_needed),
            }
        )
    return pd.DataFrame(rows).drop(columns="name", errors="ignore")


def _front_text(table: pd.DataFrame, style: NumberFormat) -> pd.DataFrame:
    """Return the cells on the Pareto front, the most probable first."""
    if "front" not in table:
        return pd.DataFrame()
    rows = []
    for row in table[table.front.fillna(False)].sort_values("chance", ascending=False, kind="stable").to_dict("records"):
        metrics = {metric: style.of(metric, "own") for metric in OBJECTIVES if metric in row}
        rows.append(
            {"attack": row["attack"], "penalty": formatting.penalty_label(row["penalty"], row["setting"])}
            | {shown.label: f"{row[metric] * shown.factor:.{shown.precision}f}" for metric, shown in metrics.items()}
            | {"probability": MISSING if pd.isna(row["chance"]) else f"{row['chance']:.2f}", "n": str(row["n"])}
        )
    return pd.DataFrame(rows)


def _about_effects(chosen: pd.DataFrame, metrics: Sequence[str], runs: PairedRuns) -> list[str]:
    paragraphs = [
        "Resampled: 95 % interval of a bootstrap of seeds, then images. Images ±: standard error of sampling test images"
        " alone, with the seeds held fixed. One seed gives no interval."
    ]
    if chosen.effect.eq("part").any():
        paragraphs.append(MARGINAL_NOTE)
    if len(chosen) > MAX_ROWS:
        paragraphs.append(f"effects.csv lists {len(chosen) - MAX_ROWS} more of these rows, and all other metrics.")
    flags = sorted(
        {
            f"{EFFECT_LABELS.get(row.effect, row.effect)} of {row.cell}, {row.metric}: {row.note}"
            for row in _rows(chosen)
            if row.note
        }
    )
    if flags:
        paragraphs.append("Interpret with care:\n\n" + "\n".join(f"- {flag}" for flag in flags))
    for metric in metrics:
        table = two_way_anova(runs, metric)
        if table is not None:
            text = table.assign(
                df=table.df.map("{:.0f}".format),
                sum_sq=table.sum_sq.map("{:.4f}".format),
                eta_sq=table.eta_sq.map("{:.2f}".format),
                F=table.F.map("{:.1f}".format),
                p=table.p.map(formatting.p_value),
            )
            paragraphs += [f"Two-way analysis of variance of {metric} (Type II):", to_markdown(text)]
    return paragraphs


def _claim_notes(judged: JudgedClaims) -> list[str]:
    marked = (judged.table.found != judged.table.found_holm).any()
    return [f"{UNCORRECTED} Undecided after Holm's correction over all claims."] if marked else []


def _about_claims(judged: JudgedClaims) -> list[str]:
    table = judged.table
    missing = dict.fromkeys(f"- {row.sentence} Missing: {row.lacks}." for row in _rows(table[table.lacks != ""]))
    by_claim = [(rows.sentence.iloc[0], remarks(rows)) for _, rows in table.groupby("claim", sort=False)]
    notes = [f"- {sentence} {remark}" for sentence, remark in by_claim if remark]
    return ["\n".join(lines) for lines in (missing, notes) if lines]


def _marked(verdict: str, corrected: str) -> str:
    return str(verdict) if verdict == corrected else f"{verdict} {UNCORRECTED}"


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    return table.itertuples()
