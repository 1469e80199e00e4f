"""Detect cells that match by name but differ in other settings, and so cannot be compared."""

from collections import defaultdict
from collections.abc import Sequence

from temper.config.types import number_text
from temper.report.records.recipe import differing_parts, recipe_settings
from temper.report.statistics.paired_differences import PairedRuns
from temper.runs.record import RunRecord

MAX_LISTED = 3  # settings, and pairs, that a line lists


def not_compared(runs: PairedRuns, records: Sequence[RunRecord]) -> list[str]:
    """Explain why cells have no partner without their attack or without their penalty.

    Args:
        runs: metrics of the study.
        records: runs of the same cells.

    Returns:
        A line for each set of settings that prevents comparisons, with the pairs of cells that it affects.
    """
    by_digest = {record.digest: record for record in records}
    pairs: dict[str, list[str]] = defaultdict(list)
    for cell in runs.cells:
        for changed in ({"attack": "none"}, {"penalty": "none"}):
            other = next((c for c in runs.cells if c.suite == cell.suite and c[:2] == cell._replace(**changed)[:2]), cell)
            if other[:2] != cell[:2] and not runs.partners(cell, changed):
                parts = differing_parts(cell.recipe, other.recipe)
                keys = _differing_settings(by_digest[cell.digest], by_digest[other.digest], parts)
                pairs[_shortened(keys, ", ")].append(f"{cell.name} and {other.name}")
    return [
        f"{_shortened(list(dict.fromkeys(names)), '; ')} are not compared: they also differ in {keys}"
        for keys, names in pairs.items()
    ]


def _differing_settings(one: RunRecord, other: RunRecord, parts: Sequence[str]) -> list[str]:
    """Return the differing settings in some parts of two recipes, each as "key (value, other value)"."""
    left, right = recipe_settings(one), recipe_settings(other)
    values = [(key, left[part].get(key), right[part].get(key)) for part in parts for key in sorted({*left[part], *right[part]})]
    return [f"{key} ({number_text(before)}, {number_text(after)})" for key, before, after in values if before != after]


def _shortened(names: Sequence[str], separator: str) -> str:
    left = len(names) - MAX_LISTED
    return separator.join([*names[:MAX_LISTED], *([f"{left} more"] if left > 0 else [])])
