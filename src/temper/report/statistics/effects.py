"""Every effect of a study as one table: of an attack, of a penalty, and their synergy, cell by cell and metric by metric."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from temper.report.records.per_example import Outcomes
from temper.report.statistics.bootstrap import differences, hierarchical, over_images
from temper.report.statistics.factorial import factorial_blocks, floors, on_logit_scale
from temper.report.statistics.marginal_effects import marginal_effects
from temper.report.statistics.metric_catalogue import is_accuracy, resolution
from temper.report.statistics.paired_differences import STATISTICS, CellKey, Contrast, PairedRuns, holm, summarize, tuned_apart

RESAMPLED = ["resampled_low", "resampled_high", "images_sd"]
COLUMNS = ["effect", "cell", "against", "suite", "metric", "scale", *STATISTICS, *RESAMPLED, "p_holm", "family", "note"]


class Effect(NamedTuple):
    """What of which cell, against what, and the weights of the cells that take part."""

    name: str
    cell: CellKey
    against: str
    contrast: Contrast


def contrasts(runs: PairedRuns) -> list[Effect]:
    """Every cell against the same one without its attack, without its penalty, and the factorial effects of the pair; before
    them, where penalties are combined, each of these on average."""
    found = [Effect("part synergy" if p.synergy else "part", p.cell, p.against, p.effect) for p in marginal_effects(runs)]
    for axis in ("attack", "penalty"):
        for cell in runs.cells:
            partners = runs.partners(cell, {axis: "none"}) if getattr(cell, axis) != "none" else []
            found += [Effect(axis, cell, each.name, {cell: 1.0, each: -1.0}) for each in partners]
    for square in factorial_blocks(runs):
        others = ", ".join(cell.name for cell in square[1:])
        found += [Effect(name, square.combined, others, contrast) for name, contrast in square.effects.items()]
    return found


def effects(
    runs: PairedRuns,
    outcomes: Outcomes,
    resampled: Sequence[str] = (),
    examples: int | None = None,
) -> pd.DataFrame:
    """One row per effect, cell, metric and scale, with `COLUMNS`.

    effect: `attack` and `penalty` set a cell against the same one without it; `main attack` and `main penalty` are means over
    both options of the other axis; `synergy` is combined - adversarial - regularized + standard; `part` and `part synergy` are
    those of one of several combined penalties, see `temper.report.statistics.marginal_effects`. scale: `share` or, of the
    factorial effects on accuracies, `logit`; `own` of what is no accuracy. resampled_low, resampled_high: the 95 % interval of
    the hierarchical bootstrap; images_sd: the standard error that the sampling of test images alone makes. p_holm: corrected
    within the family,
    the rows of one effect, metric and scale. note: that a cell of a synergy lies on the floor, or that cells were tuned to
    strengths of their own.

    Args:
        runs: all numbers.
        outcomes: by run, what happened to every test image, where it is known.
        resampled: accuracies whose images are resampled.
        examples: images in the test set; None: unknown, and the logit scale is left out.
    """
    known = contrasts(runs)
    scales = {"share": (runs, known)}
    if examples is not None:
        scales["logit"] = on_logit_scale(runs, examples), [effect for effect in known if len(effect.contrast) > 2]
    tables = [
        _summaries(scaled, chosen, scale, None if scale == "logit" else examples)
        for scale, (scaled, chosen) in scales.items()
        if chosen and scaled.metrics
    ]
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(tables, ignore_index=True)
    drawn = {}
    chosen = table[(table.scale == "share") & table.metric.isin(resampled)]
    for row, number, metric in zip(chosen.index, chosen.of.tolist(), chosen.metric.tolist(), strict=True):
        images = differences(outcomes, known[number].contrast, metric, runs.seeds)
        if images is not None:
            drawn[row] = [*hierarchical(images)[1:], over_images(images)]
    table[RESAMPLED] = pd.DataFrame.from_dict(drawn, orient="index", columns=RESAMPLED, dtype=float).reindex(table.index)
    tuned = {(e.name, e.cell.name, e.against, e.cell.suite): tuned_apart(e.contrast) for e in known}
    low = {(e.name, e.cell.name, e.cell.suite): floors(runs, e.contrast) for e in known if e.name.endswith("synergy")}
    table["note"] = [
        "; ".join(filter(None, [low.get((effect, cell, suite), {}).get(metric), tuned[effect, cell, against, suite]]))
        for effect, cell, against, suite, metric in table[COLUMNS[:5]].itertuples(index=False)
    ]
    table["family"] = table.effect + ", " + table.metric + ", " + table.scale
    table["p_holm"] = holm(table.p, table.family)
    return table[COLUMNS]


def _summaries(runs: PairedRuns, known: Sequence[Effect], scale: str, examples: int | None) -> pd.DataFrame:
    """All effects on all metrics on one scale; `of` is the place of the effect among those that are known."""
    steps = [resolution(metric, examples) for metric in runs.metrics]
    metrics = len(runs.metrics)
    series = np.stack([runs.difference(effect.contrast) for effect in known])  # (K, S, M)
    table = summarize(series.transpose(0, 2, 1).reshape(-1, len(runs.seeds)), resolution=np.tile(steps, len(known)))
    table.insert(0, "of", np.repeat(np.arange(len(known)), metrics))
    for name, values in {
        "effect": [effect.name for effect in known],
        "cell": [effect.cell.name for effect in known],
        "against": [effect.against for effect in known],
        "suite": [effect.cell.suite for effect in known],
    }.items():
        table[name] = np.repeat(np.array(values, dtype=object), metrics)
    table["metric"] = np.tile(np.array(runs.metrics, dtype=object), len(known))
    table["scale"] = [scale if is_accuracy(metric) else "own" for metric in runs.metrics] * len(known)
    return table[table.n > 0]
