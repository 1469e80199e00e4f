"""Report of a tuning: validation accuracies of every cell at every strength, and the selected strengths."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.tables.results_table import percent, to_markdown

FAILED = "failed"


class TunedCell(NamedTuple):
    """Tuning results of one cell.

    Attributes:
        attack: name of its attack.
        penalty: name of its penalty.
        setting: other settings in which it differs from cells with the same attack and penalty.
        monitor: validation metric by which the strength is selected.
        scores: by strength, ascending, last value of the metric for every tuning seed, in [0, 1]; None if a run failed.
    """

    attack: str
    penalty: str
    setting: str
    monitor: str
    scores: Mapping[float, Sequence[float] | None]

    @property
    def name(self) -> str:
        """Attack and penalty, with other settings that differ."""
        return f"{self.attack} x {self.label}"

    @property
    def label(self) -> str:
        """Penalty, with other settings that differ."""
        return f"{self.penalty} ({self.setting})" if self.setting else self.penalty

    @property
    def chosen(self) -> float | None:
        """The strength with the best mean over seeds, the smallest of equals; None if every strength failed."""
        means = {strength: statistics.fmean(values) for strength, values in self.scores.items() if values is not None}
        return min(means, key=lambda strength: (-means[strength], strength), default=None)

    @property
    def at_edge(self) -> bool:
        """True if the selected strength is the smallest or largest candidate, which suggests a better one outside."""
        return len(self.scores) > 1 and self.chosen in (min(self.scores), max(self.scores))

    def score_text(self, strength: float) -> str:
        """Return mean ± standard deviation over seeds in percent."""
        values = self.scores[strength]
        return FAILED if values is None else percent(values)


def tuning_page(study: str, tuned: Sequence[TunedCell], untuned: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the Markdown page of a tuning: all cells and strengths, with the selected strengths in bold.

    Args:
        study: name of the study.
        tuned: results of the tuned cells.
        untuned: names of the cells without a penalty that strength scales.
        seeds: of the tuning.
    """
    strengths = sorted(set().union(*(cell.scores for cell in tuned)))
    rows = []
    for cell in tuned:
        row = {"attack": cell.attack, "penalty": cell.label}
        for strength in strengths:
            score = cell.score_text(strength)
            row[f"strength {strength:g}"] = f"**{score}**" if strength == cell.chosen else score
        rows.append(row | {"selected by": cell.monitor})
    candidates = ", ".join(f"{strength:g}" for strength in strengths)
    about = (
        f"Every cell has the same tuning budget: strength {candidates}, each with seed {', '.join(map(str, seeds))}. The "
        "selected strength, in bold, has the best accuracy on the validation split in the last epoch, averaged over these "
        "seeds; of equal strengths the smallest is selected. The accuracy is robust accuracy under the validation attack for "
        "adversarial training, and clean accuracy otherwise. These runs were not evaluated on the test set. Values are mean ± "
        "standard deviation over seeds, in %."
    )
    parts = [f"# {study}: tuning of the penalty strength", about, to_markdown(pd.DataFrame(rows))]
    if edges := [cell.name for cell in tuned if cell.at_edge]:
        parts.append(f"At an end of the tuned strengths, so a better strength may be outside of them: {', '.join(edges)}.")
    if untuned:
        parts.append(f"Not tuned, because strength scales none of their penalties: {', '.join(untuned)}.")
    return "\n\n".join(parts) + "\n"
