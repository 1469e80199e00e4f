"""The audit beside the numbers: a badge for each robust accuracy, and what was found."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from temper.report.records.long_format import evaluations_of, settings_of
from temper.runs.record import RunRecord
from temper.runs.record_schema import STATUSES, Status

BADGES: dict[Status, str] = {"passed": "✓", "warned": "!", "failed": "✗"}
LEGEND = "Beside a robust accuracy: ✓ its audit passed for every seed, ! it was warned, ✗ it failed for some seed."


class Audited(NamedTuple):
    """Which evaluation of which cell: cells and suites by their digest."""

    digest: str
    suite: str
    checkpoint: str


def badges(records: Iterable[RunRecord], suite: str) -> dict[Audited, str]:
    """The worst status over checks and seeds, as a sign; nothing where there was no audit."""
    worst: dict[Audited, Status] = {}
    for record in records:
        for key in evaluations_of(record, suite):
            for name, checkpoint in record.evaluations[key]["checkpoints"].items():
                where = Audited(record.digest, key, name)
                for finding in checkpoint.get("audit", {}).values():
                    worst[where] = max(worst.get(where, "passed"), finding["status"], key=STATUSES.index)
    return {where: BADGES[status] for where, status in worst.items()}


def findings(records: Sequence[RunRecord], suite: str, checkpoint: str) -> pd.DataFrame:
    """What did not pass, one row per cell and check: status, for how many seeds, mean figure; text ready to print."""
    settings = settings_of((record, key) for record in records for key in evaluations_of(record, suite))
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in records:
        for key in evaluations_of(record, suite):
            for check, finding in record.evaluations[key]["checkpoints"].get(checkpoint, {}).get("audit", {}).items():
                penalty = f"{record.penalty} ({setting})" if (setting := settings[record.digest, key]) else record.penalty
                rows.setdefault((record.attack, penalty, key, record.digest, check), []).append(finding)
    shown = []
    for (attack, penalty, _, _, check), found in rows.items():
        flagged = [finding["status"] for finding in found if finding["status"] != "passed"]
        if flagged:
            mean = sum(finding["figure"] for finding in found) / len(found)
            verdict = f"{max(flagged, key=STATUSES.index)} for {len(flagged)} of {len(found)}"
            shown.append([attack, penalty, check, verdict, f"{100 * mean:.1f} %", found[0]["meaning"]])
    return pd.DataFrame(shown, columns=["attack", "penalty", "check", "verdict", "mean", "of what"])
