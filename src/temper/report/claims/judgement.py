"""Judge claims by the paired differences of a study."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from temper.report.claims.claim import Claim, ContrastClaim, Verdict, parts, verdict
from temper.report.claims.missing_cells import cells_lacking, metric_lacking
from temper.report.records.run_setup import Setup
from temper.report.statistics.contrasts import pairs
from temper.report.statistics.factorial import factorial_blocks, floors, on_logit_scale
from temper.report.statistics.metric_catalogue import resolution
from temper.report.statistics.paired_differences import (
    ALPHA,
    STATISTICS,
    PairedRuns,
    holm,
    mean_of_pairs,
    summarize,
    tuned_apart,
)
from temper.report.statistics.power import seeds_needed


def remarks(parts: pd.DataFrame) -> str:
    """What is to be said of a claim: its note, and the flags of its parts.

    Args:
        parts: its rows of `Judged.table`.
    """
    flags = dict.fromkeys(f"{flag[0].upper()}{flag[1:].rstrip('.')}." for flag in parts.flag if flag)
    return " ".join(filter(None, [parts.note.iloc[0], *flags]))


class Judged(NamedTuple):
    """Claims with their verdicts.

    Attributes:
        table: one row per part: claim, sentence, verdict (of the claim, by intervals), verdict_holm (what is left of it where
            parts whose p_holm is above 0.05 are undecided), joined, metric, scale, contrast, direction, margin, found and
            found_holm (the same of the part), pairs, `paired.STATISTICS` (p: of the mean against the margin), p_holm (within
            the family of all claims), seeds_needed (of what is undecided), lacks, note (of the claim), flag (of the part).
        verdicts: by the name of the claim, by intervals.
    """

    table: pd.DataFrame
    verdicts: dict[str, Verdict]

    def summary(self) -> str:
        """Such as "7 claims supported, 2 contradicted, 5 undecided, 3 lack cells"."""
        counts = {verdict: list(self.verdicts.values()).count(verdict) for verdict in Verdict}
        words = {Verdict.LACKING: "lacking cells or metrics"}
        said = [f"{n} {words.get(verdict, verdict)}" for verdict, n in counts.items() if n]
        noun = "claim" if said and said[0].startswith("1 ") else "claims"
        return ", ".join(said).replace(" ", f" {noun} ", 1) if said else "no claims"


def judge(
    claims: Mapping[str, Claim], runs: PairedRuns, study: str, examples: int | None = None, setup: Setup | None = None
) -> Judged:
    """Each claim by all numbers of a study.

    Args:
        study, setup: its name, and how its runs were set up (None: by the defaults), for the command that makes what it lacks.
        examples: images in the test set; None: unknown, and nothing is judged on the logit scale.
    """
    scales = {"own": runs} | ({} if examples is None else {"logit": on_logit_scale(runs, examples)})
    rows = []
    for name, claim in claims.items():
        for joined, part in parts(claim.holds):
            row = _judge(part, scales, examples, study, setup or Setup())
            rows.append({"claim": name, "sentence": claim.sentence, "joined": joined, **row, "note": claim.note})
    columns = ["claim", "sentence", "verdict", "verdict_holm", "joined", "metric", "scale", "contrast", "direction", "margin"]
    columns += ["found", "found_holm", "pairs", *STATISTICS, "p_holm", "seeds_needed", "lacks", "note", "flag"]
    table = pd.DataFrame(rows, columns=[*columns, "part"])
    table["p_holm"] = holm(table.p, pd.Series("claims", index=table.index))
    decided = table.found.isin([Verdict.SUPPORTED, Verdict.CONTRADICTED])
    table["found_holm"] = table.found.mask(decided & (table.p_holm > ALPHA), Verdict.UNDECIDED)
    for column, found in {"verdict": table.found, "verdict_holm": table.found_holm}.items():
        by_part = {key: dict(zip(own.part, found[own.index], strict=True)) for key, own in table.groupby("claim", sort=False)}
        table[column] = table.claim.map({name: verdict(claim.holds, by_part[name]) for name, claim in claims.items()})
    return Judged(table.drop(columns="part"), dict(zip(table.claim, table.verdict, strict=True)))


def _judge(
    part: ContrastClaim, scales: Mapping[str, PairedRuns], examples: int | None, study: str, setup: Setup
) -> dict[str, Any]:
    row = {"part": part} | {name: getattr(part, name) for name in ("metric", "scale", "contrast", "direction", "margin")}
    row |= {"pairs": 0, "n": 0, "found": Verdict.LACKING, "lacks": "", "flag": "", "seeds_needed": math.nan}
    runs = scales["own"]
    chosen = _contrasts(part, runs)
    if not chosen:
        sides = [side for side in (part.synergy, part.of, part.against) if side]
        return row | {"lacks": cells_lacking(runs, sides, study, setup, steered=bool(part.best))}
    if part.metric not in runs.metrics:
        return row | {"lacks": metric_lacking(part.metric, study, setup)}
    if part.scale not in scales:
        return row | {"lacks": "the number of test images: the outcomes beside the records, which a copy may have left behind"}
    scaled = scales[part.scale]
    number = scaled.metrics.index(part.metric)
    series = [scaled.difference(contrast)[:, number] for contrast in chosen]
    step = math.nan if part.scale == "logit" else resolution(part.metric, examples)
    found: dict[Any, Any] = summarize(mean_of_pairs(series)[None], part.margin, step).iloc[0].to_dict()
    row |= {**found, "n": int(found["n"]), "pairs": sum(bool(np.isfinite(each).any()) for each in series)}
    if row["n"] == 0:
        return row | {"lacks": f"{part.metric} for a seed that all cells share"}
    row["found"] = part.verdict(found["low"], found["high"])
    if row["found"] == Verdict.UNDECIDED:
        row["seeds_needed"] = seeds_needed(found["mean"], found["sd"] or step, part.margin)
    if part.synergy:
        flagged = {floors(runs, contrast).get(part.metric, "") for contrast in chosen}
        flagged = (flagged | {tuned_apart(contrast) for contrast in chosen}) - {""}
        row["flag"] = "; ".join(sorted(flagged))
    elif not part.best:
        row["flag"] = "; ".join(sorted({tuned_apart(contrast) for contrast in chosen} - {""}))
    elif part.best not in runs.metrics:
        row["flag"] = f"No run has {part.best}: the best is chosen by {part.metric} itself, which favours it."
    return row


def _contrasts(part: ContrastClaim, runs: PairedRuns) -> Sequence[Mapping[Any, float]]:
    if part.synergy:
        chosen = [square for square in factorial_blocks(runs) if part.synergy.has(square.combined)]
        return [square.effects["synergy"] for square in chosen]
    assert part.of and part.against
    best = None
    judged_by = next((metric for metric in (part.best, part.metric) if metric in runs.metrics), None)
    if part.best and judged_by:
        sign = 1 if part.direction == "more" else -1
        means = np.ma.masked_invalid(runs.values[:, :, runs.metrics.index(judged_by)]).mean(axis=1) * sign
        best = dict(zip(runs.cells, means.filled(-np.inf), strict=True))
    return pairs(runs, part.of, part.against, best)
