"""Do penalties do what they are known for? What a study of `experiment=penalties` says of each expectation.

    python scripts/penalty_effects.py [penalties] [penalties_fashion]

Reads the records in outputs/<study> and its report in results/<study>, and writes docs/results/<study>/effects.md. Each penalty
is compared with `none` under the same attack, seed by seed, since runs of one seed share weights, batches and random starts.
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


def of_test(name: str, factor: float = 100.0) -> Callable[[RunRecord], float]:
    return lambda record: factor * _checkpoint(record)[f"test/{name}"]


def of_weights(name: str, factor: float = 1.0) -> Callable[[RunRecord], float]:
    return lambda record: factor * _checkpoint(record)[f"weights/{name}"]


def masking(record: RunRecord) -> float:
    return of_test("pgd")(record) - of_test("autoattack")(record)


def lost_accuracy(record: RunRecord) -> float:
    return 100 * (max(record.curves["val/pgd"]) - record.curves["val/pgd"][-1])


def risen_loss(record: RunRecord) -> float:
    return record.curves["val/pgd_loss"][-1] - min(record.curves["val/pgd_loss"])


def robust_gap(record: RunRecord) -> float:
    return 100 * _checkpoint(record)["gap/robust"]


class Expectation(NamedTuple):
    """What is said of a penalty, and how it is measured here.

    Attributes:
        about: the quantity, with its unit.
        measure: of a run.
        rises: or falls.
        penalties: of which it is said.
        attacks: under which.
    """

    about: str
    measure: Callable[[RunRecord], float]
    rises: bool
    penalties: tuple[str, ...]
    attacks: tuple[str, ...] = ("none", "pgd")


AGAINST_OVERFITTING = ("ema", "swa", "awp", "sam")
EXPECTATIONS = (
    Expectation("weights below 1e-3, %", of_weights("near_zero", 100), True, ("l1", "elastic_net")),
    Expectation("weight norm", of_weights("norm"), False, ("l2", "elastic_net")),
    Expectation("Lipschitz bound", of_weights("lipschitz"), False, ("spectral", "orthogonal", "spectral_norm")),
    Expectation("best - last val/pgd, points", lost_accuracy, False, AGAINST_OVERFITTING, ("pgd",)),
    Expectation("last - least val/pgd_loss", risen_loss, False, AGAINST_OVERFITTING, ("pgd",)),
    Expectation("robust train - test, points", robust_gap, False, (*AGAINST_OVERFITTING, "early_stopping"), ("pgd",)),
    Expectation("PGD accuracy, %", of_test("pgd"), True, (*AGAINST_OVERFITTING, "early_stopping"), ("pgd",)),
    Expectation("PGD - AutoAttack accuracy, points", masking, True, ("mixup", "label_smoothing")),
)


def effects(records: list[RunRecord]) -> pd.DataFrame:
    """A row for each expectation, penalty and attack."""
    runs = {(r.attack, r.penalty, r.seed): r for r in records if r.finished}
    rows = []
    for about, measure, rises, penalties, attacks in EXPECTATIONS:
        for penalty in penalties:
            for attack in attacks:
                seeds = sorted(seed for a, p, seed in runs if (a, p) == (attack, penalty) and (attack, "none", seed) in runs)
                if not seeds:
                    continue
                without = [measure(runs[attack, "none", seed]) for seed in seeds]
                with_it = [measure(runs[attack, penalty, seed]) for seed in seeds]
                differences = [b - a for a, b in zip(without, with_it, strict=True)]
                rows.append(
                    {
                        "expected": f"{penalty} {'raises' if rises else 'lowers'}: {about}",
                        "attack": attack,
                        "none": _spread(without),
                        "with it": _spread(with_it),
                        "difference": _spread(differences, sign=True),
                        "came out": verdict(differences, rises=rises),
                        "n": len(seeds),
                    }
                )
    return pd.DataFrame(rows)


def verdict(differences: list[float], *, rises: bool) -> str:
    """By the signs of the seeds' differences: so in all of them, in none of them, or open."""
    expected = [difference > 0 if rises else difference < 0 for difference in differences]
    contrary = [difference < 0 if rises else difference > 0 for difference in differences]
    return "yes" if all(expected) else "**no**" if all(contrary) else "open"


def _checkpoint(record: RunRecord) -> dict[str, float]:
    evaluation = next(iter(record.evaluations.values()))
    metrics: dict[str, float] = evaluation["checkpoints"]["last"]["metrics"]
    return metrics


def _spread(values: list[float], *, sign: bool = False) -> str:
    largest = max(map(abs, values))
    digits = 1 if largest >= 10 else 2 if largest >= 0.1 else 4
    mean = f"{statistics.mean(values):{'+' if sign else ''}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main(studies: list[str]) -> None:
    for study in studies:
        records, _ = collect(Path("outputs") / study)
        if not records:
            sys.exit(f"there are no records in outputs/{study}: temper-train experiment=penalties study={study}")
        finished = [record for record in records if record.finished]
        table = effects(finished)
        suite = next(iter(finished[0].evaluations)).rpartition("-")[0]
        counts = ", ".join(f"{(table['came out'] == word).sum()} {word.strip('*')}" for word in ("yes", "open", "**no**"))
        text = "\n\n".join(
            [
                f"# Do penalties do what they are known for? {study}",
                "\n".join(describe_study(finished, suite)),
                "Each penalty against `none` under the same attack, differences seed by seed, mean ± standard deviation. It "
                "came out so if the difference has the expected sign for every seed, not so if the opposite, else it is open. "
                f"Strengths are those of `conf/penalty`, not tuned. Of {len(table)}: {counts}.",
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
