"""Table of all effects of a study: of attacks, of penalties, and their synergy, by cell and metric."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from temper.report.records.per_example import Outcomes
from temper.report.statistics.bootstrap import hierarchical, image_differences, over_images
from temper.report.statistics.factorial import factorial_blocks, floor_notes, on_logit_scale
from temper.report.statistics.marginal_effects import marginal_effects
from temper.report.statistics.metric_catalogue import is_accuracy, resolution
from temper.report.statistics.paired_differences import (
    STATISTICS,
    CellKey,
    Contrast,
    PairedRuns,
    holm,
    strength_note,
    summarize,
)

RESAMPLED = ["resampled_low", "resampled_high", "images_sd"]
COLUMNS = ["effect", "cell", "against", "suite", "metric", "scale", *STATISTICS, *RESAMPLED, "p_holm", "family", "note"]


class Effect(NamedTuple):
    """An effect of a cell.

    Attributes:
        name: name of the effect, as in the column `effect` of `effects_table`.
        cell: the cell.
        against: description of the cells that it is compared with.
        contrast: weights of all cells.
    """

    name: str
    cell: CellKey
    against: str
    contrast: Contrast


def list_effects(runs: PairedRuns) -> list[Effect]:
    """Return all effects of a study.

    These are, for every cell, the comparisons with the same cell without its attack and without its penalty, and the factorial
    effects of the two. Where penalties are combined, the marginal effects come first.
    """
    found = [Effect("part synergy" if p.synergy else "part", p.cell, p.against, p.effect) for p in marginal_effects(runs)]
    for axis in ("attack", "penalty"):
        for cell in runs.cells:
            partners = runs.partners(cell, {axis: "none"}) if getattr(cell, axis) != "none" else []
            found += [Effect(axis, cell, partner.name, {cell: 1.0, partner: -1.0}) for partner in partners]
    for block in factorial_blocks(runs):
        others = ", ".join(cell.name for cell in block[1:])
        found += [Effect(name, block.combined, others, contrast) for name, contrast in block.effects.items()]
    return found


def effects_table(
    runs: PairedRuns,
    outcomes: Outcomes,
    resampled: Sequence[str] = (),
    examples: int | None = None,
) -> pd.DataFrame:
    """Compute all effects, one row per effect, cell, metric and scale, with `COLUMNS`.

    effect: `attack` and `penalty` compare a cell with the same cell without it; `main attack` and `main penalty` are means over
    both options of the other axis; `synergy` is combined - adversarial - regularized + standard; `part` and `part synergy` are
    the marginal effects of one of several combined penalties, see `temper.report.statistics.marginal_effects`. scale: `share`,
    or `logit` for the factorial effects on accuracies; `own` for metrics that are no accuracies. resampled_low, resampled_high:
    95 % interval of the hierarchical bootstrap. images_sd: standard error of sampling test images alone. p_holm: corrected
    within the family, the rows of one effect, metric and scale. note: floor effects in a synergy, and cells that were tuned to
    different strengths.

    Args:
        runs: metrics of the study.
        outcomes: per-example outcomes of the runs that have them.
        resampled: accuracies whose images are resampled.
        examples: number of test images; None: unknown, which leaves out the logit scale.
    """
    all_effects = list_effects(runs)
    scales = {"share": (runs, all_effects)}
    if examples is not None:
        scales["logit"] = on_logit_scale(runs, examples), [effect for effect in all_effects if len(effect.contrast) > 2]
    tables = [
        _summaries(scaled, chosen, scale, None if scale == "logit" else examples)
        for scale, (scaled, chosen) in scales.items()
        if chosen and scaled.metrics
    ]
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(tables, ignore_index=True)
    intervals = {}
    chosen = table[(table.scale == "share") & table.metric.isin(resampled)]
    for row, position, metric in zip(chosen.index, chosen.position.tolist(), chosen.metric.tolist(), strict=True):
        images = image_differences(outcomes, all_effects[position].contrast, metric, runs.seeds)
        if images is not None:
            intervals[row] = [*hierarchical(images)[1:], over_images(images)]
    table[RESAMPLED] = pd.DataFrame.from_dict(intervals, orient="index", columns=RESAMPLED, dtype=float).reindex(table.index)
    strengths = {(e.name, e.cell.name, e.against, e.cell.suite): strength_note(e.contrast) for e in all_effects}
    floors = {
        (e.name, e.cell.name, e.cell.suite): floor_notes(runs, e.contrast) for e in all_effects if e.name.endswith("synergy")
    }
    table["note"] = [
        "; ".join(filter(None, [floors.get((effect, cell, suite), {}).get(metric), strengths[effect, cell, against, suite]]))
        for effect, cell, against, suite, metric in table[COLUMNS[:5]].itertuples(index=False)
    ]
    table["family"] = table.effect + ", " + table.metric + ", " + table.scale
    table["p_holm"] = holm(table.p, table.family)
    return table[COLUMNS]


def _summaries(runs: PairedRuns, effects: Sequence[Effect], scale: str, examples: int | None) -> pd.DataFrame:
    """Summarize all effects on all metrics of one scale; `position` is the index of the effect."""
    steps = [resolution(metric, examples) for metric in runs.metrics]
    metrics = len(runs.metrics)
    series = np.stack([runs.difference(effect.contrast) for effect in effects])  # (K, S, M)
    table = summarize(series.transpose(0, 2, 1).reshape(-1, len(runs.seeds)), resolution=np.tile(steps, len(effects)))
    table.insert(0, "position", np.repeat(np.arange(len(effects)), metrics))
    for name, values in {
        "effect": [effect.name for effect in effects],
        "cell": [effect.cell.name for effect in effects],
        "against": [effect.against for effect in effects],
        "suite": [effect.cell.suite for effect in effects],
    }.items():
        table[name] = np.repeat(np.array(values, dtype=object), metrics)
    table["metric"] = np.tile(np.array(runs.metrics, dtype=object), len(effects))
    table["scale"] = [scale if is_accuracy(metric) else "own" for metric in runs.metrics] * len(effects)
    return table[table.n > 0]
