"""Verdicts on claims, from the paired differences of a study."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from temper.report.claims.claim import Claim, ContrastClaim, Verdict, combine_verdicts, iter_contrasts
from temper.report.claims.missing_cells import command_for_missing_metric, commands_for_missing_cells
from temper.report.records.run_setup import RunSetup
from temper.report.statistics.contrasts import paired_contrasts
from temper.report.statistics.factorial import factorial_blocks, floor_notes, on_logit_scale
from temper.report.statistics.metric_catalogue import resolution
from temper.report.statistics.paired_differences import (
    ALPHA,
    STATISTICS,
    Contrast,
    PairedRuns,
    holm,
    mean_of_pairs,
    strength_note,
    summarize,
)
from temper.report.statistics.power import seeds_needed


class JudgedClaims(NamedTuple):
    """Claims with their verdicts.

    Attributes:
        table: one row per contrast of a claim. Columns: claim, sentence, verdict (of the claim, by intervals), verdict_holm (of
            the claim, if contrasts with p_holm above 0.05 are undecided), joined, metric, scale, contrast, direction, margin,
            found and found_holm (both verdicts of the contrast), pairs,
            `temper.report.statistics.paired_differences.STATISTICS` (p: of the mean against the margin), p_holm (within the
            family of all claims), seeds_needed (if undecided), lacks (missing cells or metric), note (of the claim), flag (of
            the contrast).
        verdicts: verdicts by intervals, by the name of the claim.
    """

    table: pd.DataFrame
    verdicts: dict[str, Verdict]

    def summary(self) -> str:
        """Return the counts, such as "7 claims supported, 2 contradicted, 5 undecided, 3 not evaluated"."""
        counts = {verdict: list(self.verdicts.values()).count(verdict) for verdict in Verdict}
        texts = [f"{n} {verdict}" for verdict, n in counts.items() if n]
        noun = "claim" if texts and texts[0].startswith("1 ") else "claims"
        return ", ".join(texts).replace(" ", f" {noun} ", 1) if texts else "no claims"


def judge(
    claims: Mapping[str, Claim], runs: PairedRuns, study: str, examples: int | None = None, setup: RunSetup | None = None
) -> JudgedClaims:
    """Judge every claim by the metrics of a study.

    Args:
        claims: claims by name.
        runs: metrics of the study.
        study: name of the study, for the commands that train missing cells.
        examples: number of test images; None: unknown, and nothing is judged on the logit scale.
        setup: setup of the runs, for the same commands; None: defaults.
    """
    scales = {"own": runs} | ({} if examples is None else {"logit": on_logit_scale(runs, examples)})
    rows = []
    for name, claim in claims.items():
        for joined, part in iter_contrasts(claim.holds):
            row = _judge_contrast(part, scales, examples, study, setup or RunSetup())
            rows.append({"claim": name, "sentence": claim.sentence, "joined": joined, **row, "note": claim.note})
    columns = ["claim", "sentence", "verdict", "verdict_holm", "joined", "metric", "scale", "contrast", "direction", "margin"]
    columns += ["found", "found_holm", "pairs", *STATISTICS, "p_holm", "seeds_needed", "lacks", "note", "flag"]
    table = pd.DataFrame(rows, columns=[*columns, "part"])
    table["p_holm"] = holm(table.p, pd.Series("claims", index=table.index))
    decided = table.found.isin([Verdict.SUPPORTED, Verdict.CONTRADICTED])
    table["found_holm"] = table.found.mask(decided & (table.p_holm > ALPHA), Verdict.UNDECIDED)
    for column, found in {"verdict": table.found, "verdict_holm": table.found_holm}.items():
        by_claim = {
            name: dict(zip(rows.part, found[rows.index], strict=True)) for name, rows in table.groupby("claim", sort=False)
        }
        verdicts = {name: combine_verdicts(claim.holds, by_claim[name]) for name, claim in claims.items()}
        table[column] = table.claim.map(verdicts)
    return JudgedClaims(table.drop(columns="part"), dict(zip(table.claim, table.verdict, strict=True)))


def remarks(rows: pd.DataFrame) -> str:
    """Return the remarks on a claim: its note and the flags of its contrasts.

    Args:
        rows: rows of the claim in `JudgedClaims.table`.
    """
    flags = dict.fromkeys(f"{flag[0].upper()}{flag[1:].rstrip('.')}." for flag in rows.flag if flag)
    return " ".join(filter(None, [rows.note.iloc[0], *flags]))


def _judge_contrast(
    part: ContrastClaim, scales: Mapping[str, PairedRuns], examples: int | None, study: str, setup: RunSetup
) -> dict[str, Any]:
    row = {"part": part} | {name: getattr(part, name) for name in ("metric", "scale", "contrast", "direction", "margin")}
    row |= {"pairs": 0, "n": 0, "found": Verdict.NOT_EVALUATED, "lacks": "", "flag": "", "seeds_needed": math.nan}
    runs = scales["own"]
    contrasts = _contrasts(part, runs)
    if not contrasts:
        sides = [side for side in (part.synergy, part.of, part.against) if side]
        return row | {"lacks": commands_for_missing_cells(runs, sides, study, setup, needs_base=bool(part.best))}
    if part.metric not in runs.metrics:
        return row | {"lacks": command_for_missing_metric(part.metric, study, setup)}
    if part.scale not in scales:
        return row | {"lacks": "the number of test images (the records have no files with per-example outcomes)"}
    scaled = scales[part.scale]
    position = scaled.metrics.index(part.metric)
    series = [scaled.difference(contrast)[:, position] for contrast in contrasts]
    step = math.nan if part.scale == "logit" else resolution(part.metric, examples)
    summary: dict[Any, Any] = summarize(mean_of_pairs(series)[None], part.margin, step).iloc[0].to_dict()
    row |= {**summary, "n": int(summary["n"]), "pairs": sum(bool(np.isfinite(each).any()) for each in series)}
    if row["n"] == 0:
        return row | {"lacks": f"{part.metric} for a seed that all cells share"}
    row["found"] = part.verdict(summary["low"], summary["high"])
    if row["found"] == Verdict.UNDECIDED:
        row["seeds_needed"] = seeds_needed(summary["mean"], summary["sd"] or step, part.margin)
    if part.best:
        if part.best not in runs.metrics:
            row["flag"] = f"No run has {part.best}: the best is chosen by {part.metric} itself, which favors it."
        return row
    flags = {strength_note(contrast) for contrast in contrasts}
    if part.synergy:
        flags |= {floor_notes(runs, contrast).get(part.metric, "") for contrast in contrasts}
    row["flag"] = "; ".join(sorted(flags - {""}))
    return row


def _contrasts(part: ContrastClaim, runs: PairedRuns) -> Sequence[Contrast]:
    if part.synergy:
        blocks = [block for block in factorial_blocks(runs) if part.synergy.contains(block.combined)]
        return [block.effects["synergy"] for block in blocks]
    assert part.of and part.against
    best = None
    metric = next((metric for metric in (part.best, part.metric) if metric in runs.metrics), None)
    if part.best and metric:
        sign = 1 if part.direction == "more" else -1
        means = np.ma.masked_invalid(runs.values[:, :, runs.metrics.index(metric)]).mean(axis=1) * sign
        best = dict(zip(runs.cells, means.filled(-np.inf), strict=True))
    return paired_contrasts(runs, part.of, part.against, best)
