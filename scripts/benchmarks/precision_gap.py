"""Compare PGD training in 32-true and bf16-mixed precision, paired by seed and evaluated in float32.

    python scripts/benchmarks/precision_gap.py [trainer.max_epochs=30 model=mlp …]

The runs are those of `temper-train -m` in the study `precision`; finished runs are not repeated. The script prints mean ±
standard deviation over seeds, and the paired difference: the two runs of a seed share initial weights, the order of batches and
random starts. The last column says whether the mean difference is below the standard deviation of 32-true over seeds.
"""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.table import Table

from temper.config.composed import CONF
from temper.config.resolvers import register_resolvers
from temper.config.run_config import parse
from temper.runs.identity import suite_key
from temper.runs.record import RunRecord, collect
from temper.runs.terminal import say

FULL, MIXED = "32-true", "bf16-mixed"
SEEDS = range(5)
SETTING = ("study=precision", "attack=pgd", "trainer.max_epochs=8")


def accuracies_of(records: Sequence[RunRecord], suite: str) -> dict[str, dict[int, float]]:
    """Return accuracies in % by metric and seed."""
    accuracies: dict[str, dict[int, float]] = {}
    for record in records:
        metrics = record.evaluations[suite]["checkpoints"]["last"]["metrics"]
        for name in ("clean", *record.attacks(suite), "worst_case"):
            accuracies.setdefault(name, {})[record.seed] = 100 * metrics[f"test/{name}"]
    return accuracies


def mean_and_sd(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    """Run the study and print its table."""
    register_resolvers()
    overrides = [*SETTING, *sys.argv[1:]]
    axes = [f"trainer.precision={FULL},{MIXED}", f"seed={','.join(map(str, SEEDS))}"]
    done = subprocess.run([sys.executable, "-m", "temper.cli.train", "-m", *overrides, *axes])
    if done.returncode != 0:
        sys.exit(done.returncode)
    with initialize_config_dir(CONF, version_base="1.3"):
        config = parse(compose("train", overrides=overrides))
    suite = suite_key(config.evaluation.plain())
    records, _ = collect(Path(config.paths.outputs) / config.study)
    full, mixed = (
        accuracies_of([record for record in records if record.config["trainer"]["precision"] == precision], suite)
        for precision in (FULL, MIXED)
    )
    table = Table(title=f"Test accuracy, %, after {FULL} and {MIXED} training, {len(SEEDS)} seeds")
    for heading in ("attack", FULL, MIXED, "paired difference", "below the SD"):
        table.add_column(heading)
    for name, values in full.items():
        differences = [mixed[name][seed] - values[seed] for seed in SEEDS]
        within = abs(statistics.mean(differences)) < statistics.stdev(values.values())
        table.add_row(
            name,
            mean_and_sd([*values.values()]),
            mean_and_sd([*mixed[name].values()]),
            mean_and_sd(differences),
            "yes" if within else "no",
        )
    say(table)


if __name__ == "__main__":
    main()
