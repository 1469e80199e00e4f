"""Cells whose names say that they pair, and whose settings say that they do not."""

from collections import defaultdict
from collections.abc import Sequence

from temper.report.records.recipe import ingredients, unlike
from temper.report.statistics.paired_differences import PairedRuns
from temper.runs.record import RunRecord

MOST = 3  # settings, and pairs, that are named


def not_compared(runs: PairedRuns, records: Sequence[RunRecord]) -> list[str]:
    """A line for each way in which cells without a partner differ from the first that lacks their attack, or their penalty."""
    by_digest = {record.digest: record for record in records}
    found: dict[str, list[str]] = defaultdict(list)
    for cell in runs.cells:
        for moved in ({"attack": "none"}, {"penalty": "none"}):
            other = next((c for c in runs.cells if c.suite == cell.suite and c[:2] == cell._replace(**moved)[:2]), cell)
            if other[:2] != cell[:2] and not runs.partners(cell, moved):
                keys = _differing(by_digest[cell.digest], by_digest[other.digest], unlike(cell.recipe, other.recipe))
                found[_some(keys, ", ")].append(f"{cell.name} and {other.name}")
    return [
        f"{_some(list(dict.fromkeys(pairs)), '; ')} are not compared: they differ in {keys} too"
        for keys, pairs in found.items()
    ]


def _differing(one: RunRecord, other: RunRecord, names: Sequence[str]) -> list[str]:
    """The settings, with both values."""
    here, there = ingredients(one), ingredients(other)
    values = [(key, here[name].get(key), there[name].get(key)) for name in names for key in sorted({*here[name], *there[name]})]
    return [f"{key} ({before}, {after})" for key, before, after in values if before != after]


def _some(names: Sequence[str], joint: str) -> str:
    left = len(names) - MOST
    return joint.join([*names[:MOST], *([f"{left} more"] if left > 0 else [])])
