"""Audit badges for robust accuracies, and a table of the audit findings."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from temper.report.records.long_format import distinguishing_settings, evaluation_keys
from temper.report.tables.formatting import penalty_label
from temper.runs.record import RunRecord
from temper.runs.record_schema import STATUSES, Status

BADGES: dict[Status, str] = {"passed": "✓", "warned": "!", "failed": "✗"}
LEGEND = "Marks after a robust accuracy: ✓ the audit passed for every seed, ! it warned, ✗ it failed for some seed."


class EvaluationKey(NamedTuple):
    """One evaluation of one cell; cells and suites are identified by their digests."""

    digest: str
    suite: str
    checkpoint: str


def badges(records: Iterable[RunRecord], suite: str) -> dict[EvaluationKey, str]:
    """Return the badge of the worst audit status over checks and seeds; evaluations without an audit are left out."""
    worst: dict[EvaluationKey, Status] = {}
    for record in records:
        for key in evaluation_keys(record, suite):
            for name, checkpoint in record.evaluations[key]["checkpoints"].items():
                evaluation = EvaluationKey(record.digest, key, name)
                for finding in checkpoint.get("audit", {}).values():
                    worst[evaluation] = max(worst.get(evaluation, "passed"), finding["status"], key=STATUSES.index)
    return {evaluation: BADGES[status] for evaluation, status in worst.items()}


def findings(records: Sequence[RunRecord], suite: str, checkpoint: str) -> pd.DataFrame:
    """Return the audit checks that did not pass, one row per cell and check.

    The columns are formatted text: the worst status with the number of seeds concerned, the mean figure over seeds, and the
    meaning of the figure.
    """
    settings = distinguishing_settings((record, key) for record in records for key in evaluation_keys(record, suite))
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in records:
        for key in evaluation_keys(record, suite):
            for check, finding in record.evaluations[key]["checkpoints"].get(checkpoint, {}).get("audit", {}).items():
                penalty = penalty_label(record.penalty, settings[record.digest, key])
                rows.setdefault((record.attack, penalty, key, record.digest, check), []).append(finding)
    table = []
    for (attack, penalty, _, _, check), by_seed in rows.items():
        flagged = [finding["status"] for finding in by_seed if finding["status"] != "passed"]
        if flagged:
            mean = sum(finding["figure"] for finding in by_seed) / len(by_seed)
            verdict = f"{max(flagged, key=STATUSES.index)} for {len(flagged)} of {len(by_seed)}"
            table.append([attack, penalty, check, verdict, f"{100 * mean:.1f} %", by_seed[0]["meaning"]])
    return pd.DataFrame(table, columns=["attack", "penalty", "check", "verdict", "mean", "meaning"])
