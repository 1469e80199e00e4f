"""What each kind of training is set against, in numbers and in a sentence, from the records of a study."""

from typing import NamedTuple

import pandas as pd

from temper.cell import Kind

# Each kind beside the one that lacks one of its two parts, and the axis along which that one lies at "none".
PAIRS = (
    (Kind.ADVERSARIAL, Kind.STANDARD, "attack"),
    (Kind.REGULARIZED, Kind.STANDARD, "penalty"),
    (Kind.COMBINED, Kind.ADVERSARIAL, "penalty"),
    (Kind.COMBINED, Kind.REGULARIZED, "attack"),
)
# By the metric of a record: what it is called in a sentence, its factor, its unit.
COMPARED = {
    "test/clean": ("clean accuracy", 100, " points"),
    "test/worst_case": ("robust accuracy in the worst case", 100, " points"),
    "gap/robust": ("robust generalization gap", 100, " points"),
    "cost/seconds": ("training", 1, " s"),
}


class Comparison(NamedTuple):
    """One kind against another: the same seed, and the same cell but for one axis.

    Attributes:
        kind, against: the two kinds.
        differences: by metric of `COMPARED`, one value per seed, kind minus against, a mean over the cells that have a partner.
    """

    kind: Kind
    against: Kind
    differences: dict[str, list[float]]

    def sentence(self) -> str:
        """Such as "combined against adversarial: clean accuracy +0.3 ± 0.2 points, …"."""
        parts = []
        for metric, values in self.differences.items():
            name, factor, unit = COMPARED[metric]
            series = factor * pd.Series(values)
            spread = f" ± {series.std():.1f}" if len(series) > 1 else ""
            parts.append(f"{name} {series.mean():+.1f}{spread}{unit}")
        seeds = max(map(len, self.differences.values()))
        basis = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, which is not a result"
        return f"{self.kind} against {self.against}: {', '.join(parts)}; {basis}"


def comparisons(data: pd.DataFrame, checkpoint: str) -> list[Comparison]:
    """Every pair of kinds that the study has runs of.

    Args:
        data: as `temper.report.frame.frame` gives it.
        checkpoint: whose numbers are compared.
    """
    rows = data[data.metric.isin(COMPARED) & data.checkpoint.isin([checkpoint, "run"])]
    values = rows.groupby(["kind", "attack", "penalty", "seed", "metric"]).value.mean().reset_index()
    found = []
    for kind, against, axis in PAIRS:
        shared = [column for column in ("attack", "penalty", "seed", "metric") if column != axis]
        ours, theirs = (values[values.kind == str(each)] for each in (kind, against))
        both = ours.merge(theirs, on=shared, suffixes=("", "_against"))
        if both.empty:
            continue
        both = both.assign(difference=both.value - both.value_against)
        by_seed = both.groupby(["metric", "seed"]).difference.mean()
        present = [metric for metric in COMPARED if metric in by_seed.index.get_level_values("metric")]
        found.append(Comparison(kind, against, {metric: by_seed[metric].tolist() for metric in present}))
    return found
