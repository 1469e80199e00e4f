"""What it takes to collect and report a study of a thousand runs: seconds and memory. The goal: under 30 s and 1 GB.

    python scripts/benchmark_report.py --runs 1000 --metrics 30

The records are made up in a temporary folder, in the shape of real ones: a grid of 5 attacks x 10 penalties x 4 strengths,
curves of 30 epochs, two checkpoints of so many metrics, an audit. The report is what temper-report makes, figures included, in
a process of its own, so that its peak memory is the report's.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import begin, composed, machine

from temper.cell import Kind
from temper.config import plain
from temper.progress import say
from temper.provenance import provenance
from temper.records import RunRecord, collect
from temper.report import make_report

ATTACKS = ("none", "fgsm", "pgd", "trades", "mart")
PENALTIES = ("none", "l1", "l2", "dropout", "batch_norm", "label_smoothing", "mixup", "cutout", "awp", "ema")
STRENGTHS = (0.1, 0.3, 1.0, 3.0)
NAMED = (
    "test/clean",
    *(f"test/{attack}" for attack in ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "square")),
    "test/worst_case",
    "gap/clean",
    "gap/robust",
    "test/ece",
    "weights/norm",
)
EPOCHS = 30


def main(runs: int, metrics: int) -> None:
    begin()
    say(machine(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "scale"
        start = time.perf_counter()
        size = write(study, runs, metrics)
        say(f"{runs} records of {metrics} metrics written: {time.perf_counter() - start:.1f} s, {size / 2**20:.0f} MiB")
        for name, step in (("collect", collect_all), ("collect and report, figures included", report)):
            seconds, busy, peak, before = measured(step, study, Path(folder) / "results")
            say(
                f"{name}: {seconds:.1f} s ({busy:.1f} s of the CPU), peak memory {peak:.0f} MiB, {before:.0f} MiB after imports"
            )


def write(study: Path, runs: int, metrics: int) -> int:
    """A study of so many finished runs; returns the bytes of its records."""
    known, rng, size = provenance(), np.random.default_rng(0), 0
    config = plain(composed("evaluation=standard"))
    suite = config["evaluation"]
    cells = [(a, p, s) for a in ATTACKS for p in PENALTIES for s in STRENGTHS]
    for number in range(runs):
        (attack, penalty, strength), seed = cells[number % len(cells)], number // len(cells)
        digest = f"{number % len(cells):08x}"
        kind = Kind.of(attacked=attack != "none", penalized=penalty != "none")

        def checkpoint() -> dict[str, Any]:
            names = [*NAMED, *(f"test/metric_{i}" for i in range(metrics))][:metrics]
            finding = {"status": "passed", "figure": 0.01, "meaning": "of the examples"}
            values = dict(zip(names, rng.random(metrics).tolist(), strict=True))
            return {"epoch": EPOCHS - 1, "metrics": values, "audit": dict.fromkeys(("steps", "restarts"), finding)}

        record = RunRecord(
            status="finished",
            study=study.name,
            attack=attack,
            penalty=penalty,
            kind=str(kind),
            digest=digest,
            seed=seed,
            config=config | {"seed": seed, "strength": strength},
            code="0" * 12,
            epochs=EPOCHS,
            curves={f"val/{name}": rng.random(EPOCHS).tolist() for name in ("clean", "pgd", "loss", "fgsm", "pgd_loss")},
            cost={"seconds": 1.0, "gradient_evaluations": 8.0, "peak_memory": 900.0},
            evaluations={
                "standard-00000000": {
                    "suite": suite,
                    "checkpoints": {"best": checkpoint(), "last": checkpoint()},
                    "run": {"gap/robust_overfitting": 0.0},
                    "seconds": 1.0,
                }
            },
            **known,
        )
        folder = study / f"{attack}+{penalty}-{digest}" / f"seed-{seed}"
        folder.mkdir(parents=True)
        record.write(folder)
        size += (folder / "result.json").stat().st_size
    return size


def collect_all(study: Path, results: Path) -> None:
    records, problems = collect(study)
    assert records and not problems, problems


def report(study: Path, results: Path) -> None:
    make_report(study, results)


def measured(step: Callable[[Path, Path], None], study: Path, results: Path) -> tuple[float, ...]:
    """Seconds, those of the CPU, peak memory in MiB, and how much of that there was before, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (step, study, results))


def _measured(step: Callable[[Path, Path], None], study: Path, results: Path) -> tuple[float, ...]:
    before, start, busy = _peak(), time.perf_counter(), time.process_time()
    step(study, results)
    return time.perf_counter() - start, time.process_time() - busy, _peak(), before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--metrics", type=int, default=30)
    main(**vars(parser.parse_args()))
