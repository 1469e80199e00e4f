"""How soon a recipe withstands AutoAttack: trains candidates, evaluates them, and compares what they cost and reached.

    python scripts/benchmarks/time_to_accuracy.py                             # experiment=fast50 as it stands
    python scripts/benchmarks/time_to_accuracy.py --candidate attack.steps=7 --candidate "trainer.max_epochs=40"
    python scripts/benchmarks/time_to_accuracy.py --candidate … --candidate … --final 2   # the second on the whole test set

A candidate is a set of overrides of the experiment; what all have in common, such as paths.data=FOLDER or seed=1, stands apart.
Each is a run of `temper-train`, evaluated on 1,000 test points, which place an accuracy within three points; a choice should go
by the validation split, whose PGD accuracy stands beside it. `--final` trains one candidate anew for the whole test set, and
with seed=1 shows whether it was found by luck.

All numbers are those of the runs' records. Stopped at any moment, the same command goes on; what is finished is not run again.
Training seconds are of the training batches, compilation among them; by these the goal is judged. Wall seconds are of the
process that finished the run, start and validation in them and not the evaluation; those before an interruption are lacking.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.table import Table

from temper.config.cell import run_folder
from temper.config.composed import CONF, plain_part
from temper.config.resolvers import register_resolvers
from temper.runs.provenance import suite_key
from temper.runs.record import RunRecord
from temper.runs.terminal import duration, say

EXPERIMENT, SEARCHED_ON = "experiment=fast50", "data.test_size=1000"
GOAL_ACCURACY, GOAL_SECONDS, GOAL_DEVICE = 0.5, 300, "H100"


@dataclass
class Finished:
    """What the record of a run says of it.

    Attributes:
        name: its overrides.
        metrics: of the checkpoint that counts.
        wall: seconds of the process that finished it, without the evaluation; None: less than training took in all.
    """

    name: str
    record: RunRecord
    metrics: dict[str, float]
    wall: float | None

    @classmethod
    def read(cls, name: str, config: DictConfig) -> "Finished":
        """Of a run that is finished.

        Raises:
            ValueError: it is not.
        """
        record, suite = RunRecord.read(run_folder(config)), suite_key(plain_part(config, "evaluation"))
        if not record.has(suite):
            raise ValueError((record.error or "it is not finished").splitlines()[0])
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
        return self.metrics["test/autoattack"]

    @property
    def seconds(self) -> float:
        return self.record.cost["seconds"] or 0

    def row(self, number: int) -> list[str]:
        validated = self.record.curves[self.record.monitor][-1]
        shares = (validated, self.metrics["test/clean"], self.metrics["test/pgd"], self.accuracy)
        return [
            str(number),
            self.name or "as it stands",
            f"{self.seconds:.1f}",
            "–" if self.wall is None else f"{self.wall:.1f}",
            str(self.record.epochs),
            f"{self.record.cost['gradient_evaluations']:.1f}",
            *(f"{100 * share:.1f}" for share in shares),
        ]


def trained(name: str, overrides: Sequence[str]) -> Finished:
    """Run `temper-train` in a process of its own, which has the device to itself, and read its record.

    Raises:
        ValueError: it failed.
    """
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    say(f"temper-train {shlex.join(overrides)}")
    status = subprocess.run([sys.executable, "-m", "temper.cli.train", *overrides]).returncode
    if status != 0:
        raise ValueError(f"temper-train ended with status {status}")
    return Finished.read(name, config)


def table(runs: dict[int, Finished], title: str) -> Table:
    shown = Table(title=title)
    shown.add_column("")
    shown.add_column("candidate", overflow="fold")
    headings = ("training s", "wall s", "epochs", "gradients\nan image", "val PGD %", "clean %", "PGD %", "AutoAttack %")
    for heading in headings:
        shown.add_column(heading, justify="right")
    for number, run in runs.items():
        shown.add_row(*run.row(number))
    return shown


def judged(runs: dict[int, Finished]) -> Iterator[str]:
    """What became of the goal."""
    reached = {number: run for number, run in runs.items() if run.accuracy >= GOAL_ACCURACY}
    goal = f"{100 * GOAL_ACCURACY:g} % under AutoAttack within {duration(GOAL_SECONDS)} of training on an {GOAL_DEVICE}"
    if not reached:
        yield f"{goal}: MISSED: none is so accurate"
        return
    number = min(reached, key=lambda number: reached[number].seconds)
    run = reached[number]
    device = run.record.hardware.get("gpu", run.record.hardware["cpu"])
    met = "MET" if run.seconds < GOAL_SECONDS and GOAL_DEVICE in device else "MISSED"
    yield f"{goal}: {met}: candidate {number} after {duration(run.seconds)} on {device}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidate", action="append", metavar="OVERRIDES", help="of the experiment; again for each candidate")
    parser.add_argument("--final", type=int, metavar="N", help="train the Nth candidate anew, for the whole test set")
    parser.add_argument("overrides", nargs="*", help="of all candidates")
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
            runs[number] = trained(name, [EXPERIMENT, *searching, *arguments.overrides, *shlex.split(name)])
        except (ValueError, OSError) as error:  # the others go on
            failed[number] = str(error)
    say(table(runs, "Time to accuracy" if arguments.final is None else "Time to accuracy, on the whole test set"))
    for line in judged(runs):
        say(line)
    for number, reason in failed.items():
        say(f"failed: candidate {number}: {reason}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
