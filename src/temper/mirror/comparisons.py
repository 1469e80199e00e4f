"""What each kind of training is set against, as a sentence, from the records of a study."""

from temper.report.kinds import PAIRS, difference
from temper.report.paired import Runs

# By the metric of a record: what it is called in a sentence, its factor, its unit.
COMPARED = {
    "test/clean": ("clean accuracy", 100, " points"),
    "test/worst_case": ("robust accuracy in the worst case", 100, " points"),
    "gap/robust": ("robust generalization gap", 100, " points"),
    "cost/seconds": ("training", 1, " s"),
}


def comparisons(runs: Runs) -> list[str]:
    """A sentence for every pair of kinds that the study has, such as "combined against adversarial: clean accuracy +0.3 ± 0.2
    points, …"."""
    said = []
    for kind, against in PAIRS:
        found = {metric: difference(runs, kind, against, metric) for metric in COMPARED}
        known = {metric: value for metric, value in found.items() if value is not None}
        if not known:
            continue
        parts = []
        for metric, value in known.items():
            name, factor, unit = COMPARED[metric]
            spread = f" ± {factor * value.sd:.1f}" if value.n > 1 else ""
            parts.append(f"{name} {factor * value.mean:+.1f}{spread}{unit}")
        seeds = max(value.n for value in known.values())
        basis = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed, which is not a result"
        said.append(f"{kind} against {against}: {', '.join(parts)}; {basis}")
    return said
