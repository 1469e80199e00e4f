"""Measure the time and memory of the report on a study of 1,000 runs. The goal is under 30 s and 1 GB.

    python scripts/benchmarks/benchmark_report.py --runs 1000 --metrics 30 --images 10000

The records are synthetic, in a temporary folder, with the structure of real ones: a grid of 5 attacks x (none and 13 penalties
at 3 strengths) x 5 seeds, curves of 30 epochs, two checkpoints with the given number of metrics, an audit, and per-example
outcomes under every attack for the bootstrap. The script measures temper-report in its own process, including imports, tables,
effects, claims and figures. Figures of networks (surface, weights) are excluded, since they need real checkpoints.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import begin, composed, machine

from temper.config.cell import Kind
from temper.runs.atomic_files import write_arrays
from temper.runs.provenance import provenance
from temper.runs.record import RunRecord, outcomes_path
from temper.runs.terminal import say

ATTACKS = ("none", "fgsm", "pgd", "trades", "mart")
PENALTIES = (
    "l1",
    "l2",
    "dropout",
    "batch_norm",
    "label_smoothing",
    "mixup",
    "cutout",
    "awp",
    "ema",
    "sam",
    "swa",
    "noise",
    "jacobian",
)
STRENGTHS = (0.3, 1.0, 3.0)
CELLS = [(a, p, s) for a in ATTACKS for p, s in [("none", 1.0), *((p, s) for p in PENALTIES for s in STRENGTHS)]]
SUITE = ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "square")
METRICS = (
    "test/clean",
    *(f"test/{attack}" for attack in SUITE),
    "test/worst_case",
    "gap/clean",
    "gap/robust",
    "test/ece",
    "weights/norm",
)
EPOCHS = 30


def main(runs: int, metrics: int, images: int) -> None:
    """Write a synthetic study, report it, and print time and memory."""
    begin()
    say(machine(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        size = write(Path(folder) / "outputs" / "scale", runs, metrics, images)
        seconds = time.perf_counter() - start
        say(f"wrote {runs} records of {metrics} metrics, {images} images each: {seconds:.1f} s, {size / 2**20:.0f} MiB")
        paths = [f"paths.outputs={folder}/outputs", f"paths.results={folder}/results"]
        for name, code, arguments in (
            ("imports only", "import temper.report", []),
            ("temper-report", "from temper.cli.report import main; main()", ["study=scale", *paths]),
        ):
            seconds, busy, peak = measured(code, arguments)
            say(f"{name}: {seconds:.1f} s ({busy:.1f} s CPU time), peak memory {peak:.0f} MiB")


def write(study: Path, runs: int, metrics: int, images: int) -> int:
    """Write a study of finished runs with per-example outcomes, and return the size of its records in bytes."""
    known, rng, size = provenance(), np.random.default_rng(0), 0
    config = composed("evaluation=standard").plain()
    suite = config["evaluation"]
    for number in range(runs):
        (attack, penalty, strength), seed = CELLS[number % len(CELLS)], number // len(CELLS)
        digest = f"{number % len(CELLS):08x}"
        kind = Kind.of(attacked=attack != "none", penalized=penalty != "none")

        def checkpoint() -> dict[str, Any]:
            names = [*METRICS, *(f"test/metric_{i}" for i in range(metrics))][:metrics]
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
        correct = {name: rng.random(images) < 0.7 for name in ("clean", *SUITE)}
        write_arrays(outcomes_path(folder, "standard-00000000", "last"), correct)
    return size


def measured(code: str, arguments: list[str]) -> tuple[float, float, float]:
    """Run code in a new Python process; return wall-clock seconds, CPU seconds and peak memory in MiB."""
    start = time.perf_counter()
    command = [sys.executable, "-c", f"{code}\nprint(open('/proc/self/status').read())", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # The system's peak memory of a child process (ru_maxrss) includes that of its parent, VmHWM does not.
        peak = re.search(r"VmHWM:\s+(\d+) kB", process.stdout.read())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert peak and process.returncode == 0, code
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, int(peak[1]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="number of runs (default: 1000)")
    parser.add_argument("--metrics", type=int, default=30, help="metrics per checkpoint (default: 30)")
    parser.add_argument("--images", type=int, default=10_000, help="test images per run (default: 10000)")
    main(**vars(parser.parse_args()))
