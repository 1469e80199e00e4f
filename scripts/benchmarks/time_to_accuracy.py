"""Train and evaluate candidate recipes, and compare their training time and AutoAttack accuracy.

    python scripts/benchmarks/time_to_accuracy.py                             # experiment=fast50 unchanged
    python scripts/benchmarks/time_to_accuracy.py --candidate attack.steps=7 --candidate "trainer.max_epochs=40"
    python scripts/benchmarks/time_to_accuracy.py --candidate … --candidate … --final 2   # candidate 2, full test set

A candidate is a set of overrides of the experiment; overrides of all candidates, such as paths.data=FOLDER or seed=1, are
positional arguments. Each candidate is a run of `temper-train`, evaluated on 1,000 test examples, which gives an accuracy
within three points. Select by the PGD accuracy on the validation split, which the table shows as well. `--final` trains one
candidate again and evaluates it on the full test set; with seed=1 this shows whether the selection was luck.

All numbers come from the records of the runs. The same command resumes after an interruption and does not repeat finished runs.
The goal refers to training seconds: the time of the training batches, including compilation. Wall seconds are the time of the
process that finished the run, including start and validation, without the evaluation and without earlier interrupted processes.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from rich.table import Table

from temper.config.cell import run_folder
from temper.config.composed import CONF
from temper.config.resolvers import register_resolvers
from temper.config.run_config import RunConfig, parse
from temper.runs.identity import suite_key
from temper.runs.record import RunRecord
from temper.runs.terminal import duration, say

EXPERIMENT, SEARCHED_ON = "experiment=fast50", "data.test_size=1000"
GOAL_ACCURACY, GOAL_SECONDS, GOAL_DEVICE = 0.5, 300, "H100"


@dataclass
class Finished:
    """Result of a candidate's run.

    Attributes:
        name: the candidate's overrides.
        record: the run's record.
        metrics: metrics of the last evaluated checkpoint.
        wall: wall-clock seconds of the process that finished the run, without the evaluation; None: it was interrupted before.
    """

    name: str
    record: RunRecord
    metrics: dict[str, float]
    wall: float | None

    @classmethod
    def read(cls, name: str, config: RunConfig) -> "Finished":
        """Read the result of a finished run.

        Args:
            name: the candidate's overrides.
            config: the run's config.

        Raises:
            ValueError: the run is not finished.
        """
        record, suite = RunRecord.read(run_folder(config)), suite_key(config.evaluation.plain())
        if not record.has(suite):
            raise ValueError((record.error or "the run is not finished").splitlines()[0])
        evaluation: dict[str, Any] = record.evaluations[suite]
        wall = (record.cost["wall_seconds"] or 0) - evaluation["seconds"]
        return cls(
            name=name,
            record=record,
            metrics=evaluation["checkpoints"][config.evaluation.checkpoints[-1]]["metrics"],
            wall=wall if wall >= (record.cost["seconds"] or 0) else None,
        )

    @property
    def accuracy(self) -> float:
        """Robust accuracy under AutoAttack, a fraction."""
        return self.metrics["test/autoattack"]

    @property
    def seconds(self) -> float:
        """Training time, seconds."""
        return self.record.cost["seconds"] or 0

    def row(self, number: int) -> list[str]:
        """Return the cells of the candidate's row in the table."""
        validation = self.record.curves[self.record.monitor][-1]
        accuracies = (validation, self.metrics["test/clean"], self.metrics["test/pgd"], self.accuracy)
        return [
            str(number),
            self.name or "unchanged",
            f"{self.seconds:.1f}",
            "–" if self.wall is None else f"{self.wall:.1f}",
            str(self.record.epochs),
            f"{self.record.cost['gradient_evaluations']:.1f}",
            *(f"{100 * accuracy:.1f}" for accuracy in accuracies),
        ]


def train_candidate(name: str, overrides: Sequence[str]) -> Finished:
    """Run `temper-train` in a new process, so that the device is free, and read its record.

    Args:
        name: the candidate's overrides.
        overrides: all overrides of the run.

    Raises:
        ValueError: the run failed.
    """
    with initialize_config_dir(CONF, version_base="1.3"):
        config = parse(compose("train", overrides=list(overrides)))
    say(f"temper-train {shlex.join(overrides)}")
    status = subprocess.run([sys.executable, "-m", "temper.cli.train", *overrides]).returncode
    if status != 0:
        raise ValueError(f"temper-train exited with status {status}")
    return Finished.read(name, config)


def build_table(runs: dict[int, Finished], title: str) -> Table:
    """Return a table with a row for each candidate."""
    table = Table(title=title)
    table.add_column("")
    table.add_column("candidate", overflow="fold")
    headings = ("training s", "wall s", "epochs", "gradients\nper image", "val PGD %", "clean %", "PGD %", "AutoAttack %")
    for heading in headings:
        table.add_column(heading, justify="right")
    for number, run in runs.items():
        table.add_row(*run.row(number))
    return table


def judge(runs: dict[int, Finished]) -> Iterator[str]:
    """Yield a line that says whether the goal is met."""
    reached = {number: run for number, run in runs.items() if run.accuracy >= GOAL_ACCURACY}
    goal = f"{100 * GOAL_ACCURACY:g} % under AutoAttack within {duration(GOAL_SECONDS)} of training on an {GOAL_DEVICE}"
    if not reached:
        yield f"{goal}: MISSED: no candidate reaches this accuracy"
        return
    number = min(reached, key=lambda number: reached[number].seconds)
    run = reached[number]
    device = run.record.hardware.get("gpu", run.record.hardware["cpu"])
    met = "MET" if run.seconds < GOAL_SECONDS and GOAL_DEVICE in device else "MISSED"
    yield f"{goal}: {met}: candidate {number} after {duration(run.seconds)} on {device}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--candidate", action="append", metavar="OVERRIDES", help="overrides of one candidate; repeat for each candidate"
    )
    parser.add_argument("--final", type=int, metavar="N", help="train candidate N again and evaluate it on the full test set")
    parser.add_argument("overrides", nargs="*", help="overrides of all candidates")
    arguments = parser.parse_args()
    candidates: dict[int, str] = dict(enumerate(arguments.candidate or [""], start=1))
    if arguments.final is not None and arguments.final not in candidates:
        parser.error(f"--final {arguments.final}: candidates are numbered from 1 to {len(candidates)}")
    register_resolvers()
    chosen = candidates if arguments.final is None else {arguments.final: candidates[arguments.final]}
    searching = [SEARCHED_ON] if arguments.final is None else []
    runs, failed = dict[int, Finished](), dict[int, str]()
    for number, name in chosen.items():
        try:
            runs[number] = train_candidate(name, [EXPERIMENT, *searching, *arguments.overrides, *shlex.split(name)])
        except (ValueError, OSError) as error:  # the other candidates still run
            failed[number] = str(error)
    say(build_table(runs, "Time to accuracy" if arguments.final is None else "Time to accuracy, full test set"))
    for line in judge(runs):
        say(line)
    for number, reason in failed.items():
        say(f"failed: candidate {number}: {reason}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
