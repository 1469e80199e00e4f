"""What tuning found: the accuracies that every cell reached at every strength, and which strength they chose."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.tables.results_table import percent, to_markdown

FAILED = "failed"


class Tuned(NamedTuple):
    """One cell, tuned.

    Attributes:
        attack, penalty, setting: which cell; the setting tells apart cells of one attack and penalty.
        monitor: the curve that it was judged by.
        scores: by strength, ascending, its last value for every tuning seed, in [0, 1]; None where a run failed.
    """

    attack: str
    penalty: str
    setting: str
    monitor: str
    scores: Mapping[float, Sequence[float] | None]

    @property
    def name(self) -> str:
        return f"{self.attack} x {self.label}"

    @property
    def label(self) -> str:
        return f"{self.penalty} ({self.setting})" if self.setting else self.penalty

    @property
    def chosen(self) -> float | None:
        """The strength with the best mean over seeds, of equals the smallest; None where every strength failed."""
        means = {strength: statistics.fmean(values) for strength, values in self.scores.items() if values is not None}
        return min(means, key=lambda strength: (-means[strength], strength), default=None)

    @property
    def at_edge(self) -> bool:
        """Whether the chosen strength is the least or the greatest that was tried, so that a better one may lie beyond."""
        return len(self.scores) > 1 and self.chosen in (min(self.scores), max(self.scores))

    def shown(self, strength: float) -> str:
        """Mean ± standard deviation over seeds in percent."""
        values = self.scores[strength]
        return FAILED if values is None else percent(values)


def tuning_page(study: str, tuned: Sequence[Tuned], untuned: Sequence[str], seeds: Sequence[int]) -> str:
    """The table of all cells and strengths, the chosen ones in bold, and what they were chosen by.

    Args:
        untuned: names of the cells whose penalties strength does not scale.
        seeds: that every strength was tried with.
    """
    strengths = sorted(set().union(*(cell.scores for cell in tuned)))
    rows = []
    for cell in tuned:
        row = {"attack": cell.attack, "penalty": cell.label}
        for strength in strengths:
            shown = cell.shown(strength)
            row[f"strength {strength:g}"] = f"**{shown}**" if strength == cell.chosen else shown
        rows.append(row | {"chosen by": cell.monitor})
    tried = f"strength {', '.join(f'{strength:g}' for strength in strengths)}, each with seed {', '.join(map(str, seeds))}"
    about = (
        f"Every cell had the same budget: {tried}. Chosen, in bold, is the strength with the best mean over these seeds of the "
        "last epoch's accuracy on the validation split: under the validation attack where an attack is trained against, clean "
        "where not; of equals the smallest. None of these runs was evaluated on the test set. Mean ± standard deviation over "
        "seeds, in %."
    )
    parts = [f"# {study}: how strength was chosen", about, to_markdown(pd.DataFrame(rows))]
    if edges := [cell.name for cell in tuned if cell.at_edge]:
        parts.append(f"At the edge of what was tried, so that a better strength may lie beyond: {', '.join(edges)}.")
    if untuned:
        parts.append(f"Not tuned, since strength scales no penalty of theirs: {', '.join(untuned)}.")
    return "\n\n".join(parts) + "\n"
