"""Measure the overhead of W&B logging: complete runs with logger=[csv,wandb], offline, compared with logger=csv.

    python scripts/benchmarks/benchmark_logging.py [data.batch_size=128 trainer.max_epochs=32 …]

Both variants run in one process, like the runs of a sweep, and alternate in going first, so that other load slows both. The
script prints the median over rounds of the ratio. The cost of importing W&B and starting its service, once per process, is
printed separately.
"""

import os
import statistics
import sys
import tempfile
import time

import torch
from measuring import begin, composed, machine

from temper.cli.run import run
from temper.runs.identity import RunIdentity

ROUNDS, GOAL = 7, 1.03
SIDES = {"csv": "[csv]", "both": "[csv,wandb]"}
KINDS = {"standard": ("attack=none", "penalty=none"), "combined": ("attack=pgd", "penalty=l2")}


def seconds(outputs: str, loggers: str, *overrides: str) -> float:
    """Return the seconds of one complete run: training, evaluation, record, logging."""
    config = composed(f"paths.outputs={outputs}", f"logger={loggers}", *overrides)
    since = time.perf_counter()
    record = run(config, RunIdentity.of(config), alone=False)
    took = time.perf_counter() - since
    assert record is not None and record.finished, record and record.error
    return took


def main() -> None:
    """Print the ratio of the run times with and without W&B."""
    begin()
    os.environ["WANDB_MODE"] = "offline"
    print(f"{machine(torch.device('cpu'))}; {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as folder:
        tiny = ("trainer.max_epochs=1", "evaluation=quick", "data.train_size=200", "data.test_size=60")
        seconds(f"{folder}/warm", "[csv]", *tiny)
        once = seconds(f"{folder}/first", "[csv,wandb]", *tiny) - seconds(f"{folder}/second", "[csv,wandb]", *tiny)
        print(f"once per process: {once:.2f} s")
        print(f"{'kind':12s} {'csv s':>8s} {'csv,wandb s':>12s} {'ratio':>7s}   goal")
        for kind, cell in KINDS.items():
            rounds = []
            for number in range(ROUNDS):
                took = {}
                for side in SIDES if number % 2 else reversed(SIDES):
                    outputs = f"{folder}/{kind}-{number}-{side}"
                    took[side] = seconds(outputs, SIDES[side], *cell, *sys.argv[1:])
                rounds.append((took["csv"], took["both"]))
            ratio = statistics.median(both / alone for alone, both in rounds)
            alone, both = (statistics.median(side) for side in zip(*rounds, strict=True))
            print(f"{kind:12s} {alone:8.2f} {both:12.2f} {ratio:7.3f}   <= {GOAL} {'met' if ratio <= GOAL else 'missed'}")


if __name__ == "__main__":
    main()
