"""Test the known effects of penalties on the records of `experiment=penalties`.

    python scripts/penalty_effects.py [penalties] [penalties_fashion]

The script reads the records in outputs/<study> and the report in results/<study>, and writes docs/results/<study>/effects.md.
Each penalty is compared with `none` under the same attack, paired by seed: runs of one seed share initial weights, batches and
random starts.
"""

import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from temper.report.write import describe_study
from temper.runs.record import RunRecord, collect
from temper.runs.terminal import say

HOME = Path(__file__).resolve().parents[1]


def metric(name: str, factor: float = 1.0) -> Callable[[RunRecord], float]:
    """Return a function that gives a metric of a run's last checkpoint, times a factor."""
    return lambda record: factor * _metrics(record)[name]


def masking(record: RunRecord) -> float:
    """Return PGD accuracy minus AutoAttack accuracy, percentage points."""
    return 100 * (_metrics(record)["test/pgd"] - _metrics(record)["test/autoattack"])


def lost_accuracy(record: RunRecord) -> float:
    """Return best minus last validation accuracy under PGD, percentage points."""
    return 100 * (max(record.curves["val/pgd"]) - record.curves["val/pgd"][-1])


def risen_loss(record: RunRecord) -> float:
    """Return last minus least validation loss under PGD."""
    return record.curves["val/pgd_loss"][-1] - min(record.curves["val/pgd_loss"])


class Expectation(NamedTuple):
    """Known effect of penalties.

    Attributes:
        quantity: name and unit of what changes.
        measure: function that gives the quantity of a run.
        rises: whether the quantity is expected to rise; otherwise to fall.
        penalties: penalties that are expected to change it.
        attacks: training attacks to test under.
    """

    quantity: str
    measure: Callable[[RunRecord], float]
    rises: bool
    penalties: tuple[str, ...]
    attacks: tuple[str, ...] = ("none", "pgd")


AGAINST_OVERFITTING = ("ema", "swa", "awp", "sam")
EXPECTATIONS = (
    Expectation("weights below 1e-3, %", metric("weights/near_zero", 100), True, ("l1", "elastic_net")),
    Expectation("weight norm", metric("weights/norm"), False, ("l2", "elastic_net")),
    Expectation("Lipschitz bound", metric("weights/lipschitz"), False, ("spectral", "orthogonal", "spectral_norm")),
    Expectation("best - last val/pgd, points", lost_accuracy, False, AGAINST_OVERFITTING, ("pgd",)),
    Expectation("last - least val/pgd_loss", risen_loss, False, AGAINST_OVERFITTING, ("pgd",)),
    Expectation(
        "robust train - test, points", metric("gap/robust", 100), False, (*AGAINST_OVERFITTING, "early_stopping"), ("pgd",)
    ),
    Expectation("PGD accuracy, %", metric("test/pgd", 100), True, (*AGAINST_OVERFITTING, "early_stopping"), ("pgd",)),
    Expectation("PGD - AutoAttack accuracy, points", masking, True, ("mixup", "label_smoothing")),
)


def effects(records: list[RunRecord]) -> pd.DataFrame:
    """Return a table with a row for each expectation, penalty and attack."""
    runs = {(r.attack, r.penalty, r.seed): r for r in records if r.finished}
    rows = []
    for quantity, measure, rises, penalties, attacks in EXPECTATIONS:
        for penalty in penalties:
            for attack in attacks:
                seeds = sorted(seed for a, p, seed in runs if (a, p) == (attack, penalty) and (attack, "none", seed) in runs)
                if not seeds:
                    continue
                without = [measure(runs[attack, "none", seed]) for seed in seeds]
                with_penalty = [measure(runs[attack, penalty, seed]) for seed in seeds]
                differences = [b - a for a, b in zip(without, with_penalty, strict=True)]
                rows.append(
                    {
                        "expected": f"{penalty} {'raises' if rises else 'lowers'}: {quantity}",
                        "attack": attack,
                        "none": _mean_and_sd(without),
                        "with penalty": _mean_and_sd(with_penalty),
                        "difference": _mean_and_sd(differences, sign=True),
                        "confirmed": verdict(differences, rises=rises),
                        "n": len(seeds),
                    }
                )
    return pd.DataFrame(rows)


def verdict(differences: list[float], *, rises: bool) -> str:
    """Return "yes" if the difference has the expected sign for every seed, "**no**" if the opposite, else "open"."""
    expected = [difference > 0 if rises else difference < 0 for difference in differences]
    contrary = [difference < 0 if rises else difference > 0 for difference in differences]
    return "yes" if all(expected) else "**no**" if all(contrary) else "open"


def _metrics(record: RunRecord) -> dict[str, float]:
    evaluation = next(iter(record.evaluations.values()))
    metrics: dict[str, float] = evaluation["checkpoints"]["last"]["metrics"]
    return metrics


def _mean_and_sd(values: list[float], *, sign: bool = False) -> str:
    largest = max(map(abs, values))
    digits = 1 if largest >= 10 else 2 if largest >= 0.1 else 4
    mean = f"{statistics.mean(values):{'+' if sign else ''}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main(studies: list[str]) -> None:
    """Write the effects of each study to docs/results/<study>/effects.md."""
    for study in studies:
        records, _ = collect(Path("outputs") / study)
        if not records:
            sys.exit(f"outputs/{study} has no records. Run temper-train experiment=penalties study={study}.")
        finished = [record for record in records if record.finished]
        table = effects(finished)
        suite = next(iter(finished[0].evaluations)).rpartition("-")[0]
        counts = ", ".join(f"{(table['confirmed'] == word).sum()} {word.strip('*')}" for word in ("yes", "open", "**no**"))
        text = "\n\n".join(
            [
                f"# Known effects of penalties: {study}",
                "\n".join(describe_study(finished, suite)),
                "Each penalty is compared with `none` under the same attack, paired by seed; mean ± standard deviation over "
                "seeds. An effect is confirmed (yes) if the difference has the expected sign for every seed, contradicted "
                "(no) if it has the opposite sign for every seed, and open otherwise. Strengths are those of `conf/penalty`, "
                f"not tuned. Of {len(table)} effects: {counts}.",
                table.to_markdown(
                    index=False, disable_numparse=True, colalign=["left", "left", *["right"] * 3, "left", "right"]
                ),
            ]
        )
        path = HOME / "docs" / "results" / study / "effects.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        shutil.copyfile(Path("results") / study / "table.md", path.with_name("table.md"))
        say(f"{study}: {counts}; {path}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["penalties"])
