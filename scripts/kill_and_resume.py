"""Kill a run at random moments, restart it each time, and compare its files byte by byte with those of an uninterrupted run.

    python scripts/kill_and_resume.py --kills 100

A kill can hit at any moment: before the start, during an attack, in the evaluation, or while a file is written.
The signals are SIGKILL, SIGTERM, SIGUSR1, SIGUSR2 and SIGINT in turn. Each run is a fork of this process, which has imported
everything already, so that a hundred kills take minutes. Finished runs are followed by new ones until all kills are used.
The exit status is 1 if any file differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import temper.cli.run  # noqa: F401  # imported once for all forks
from temper.cli.train import main
from temper.runs.record import RECORD, RunRecord
from temper.runs.terminal import say

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
RUN = (
    "attack=pgd",
    "penalty=[dropout,l2,ema]",
    "trainer.max_epochs=12",
    "data.train_size=400",
    "data.test_size=60",
    "model.width=4",
    "model.hidden=16",
    "logger=[csv]",
)


def start(study: str, *overrides: str) -> int:
    """Fork a process that runs temper-train without output, and return its process id."""
    process = os.fork()
    if process:
        return process
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    sys.argv = ["temper-train", f"study={study}", *RUN, *overrides]
    status = 1
    try:
        main()
        status = 0
    except SystemExit as ended:
        status = 0 if ended.code in (None, 0) else 1
    finally:
        os._exit(status)


def succeeded(process: int) -> bool:
    """Wait for a process and return whether its exit status is 0."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def kill_after(process: int, seconds: float, how: signal.Signals) -> bool:
    """Send a signal after some seconds; return False if the process ended before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(process, how)
    succeeded(process)
    return True


def stage(folder: Path | None) -> str:
    """Return the stage at which a run was killed, judged by its files."""
    if folder is None or not (folder / "checkpoints" / "last.ckpt").exists():
        return "before the first checkpoint"
    if any(folder.rglob("*.part")):
        return "while a file was written"
    log = (folder / "train.log").read_text() if (folder / "train.log").exists() else ""
    return "in the evaluation" if f"epoch {epochs()} of {epochs()}" in log.rpartition("resuming from")[2] else "in training"


def epochs() -> int:
    return int(next(argument for argument in RUN if "max_epochs" in argument).partition("=")[2])


def result(folder: Path) -> dict[str, Any]:
    """Return the record without study, clock times and commit, in which two equal runs may differ, and all outcome files."""
    values = json.loads((folder / RECORD).read_text())
    del values["commit"], values["dirty"]
    values["cost"] = {"gradient_evaluations": values["cost"]["gradient_evaluations"]}
    values["study"] = values["config"]["study"] = ""
    for evaluation in values["evaluations"].values():
        evaluation.pop("seconds")
    arrays = {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "evaluations").rglob("*.npz"))}
    return {"record": json.dumps(values, sort_keys=True), "metrics.csv": (folder / "metrics.csv").read_bytes(), **arrays}


def only_run(study: str) -> Path | None:
    return next(iter(Path("outputs", study).glob("*/seed-*")), None)


def compare(uninterrupted: Path, killed: Path) -> list[str]:
    """Return the names of the files that differ between two runs."""
    expected, actual = result(uninterrupted), result(killed)
    return [name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="number of kills (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    return parser.parse_args()


def run() -> int:
    options = parse()
    draw = random.Random(options.seed)
    os.chdir(tempfile.mkdtemp(prefix="temper-kills-"))
    since = time.monotonic()
    if not succeeded(start("uninterrupted")):
        say("error: the uninterrupted run failed. Run temper-train to see the error.")
        return 1
    whole = time.monotonic() - since
    say(f"an uninterrupted run takes {whole:.1f} s")
    uninterrupted = only_run("uninterrupted")
    assert uninterrupted is not None and RunRecord.read(uninterrupted).finished
    kills, runs, failures = 0, 0, 0
    stages: Counter[str] = Counter()
    while kills < options.kills:
        study = f"killed-{runs}"
        hits = 0
        while kills < options.kills and hits < 12:
            process = start(study)
            began = time.monotonic()
            if not kill_after(process, whole * draw.uniform(0.1, 1), SIGNALS[kills % len(SIGNALS)]):
                whole = max(1.0, min(whole, 1.2 * (time.monotonic() - began)))  # the machine is faster than before
                break
            kills, hits = kills + 1, hits + 1
            stages[stage(only_run(study))] += 1
        if not succeeded(start(study)):
            say(f"{study}: the last restart failed")
            failures += 1
        folder = only_run(study)
        assert folder is not None
        differing = compare(uninterrupted, folder)
        failures += bool(differing)
        say(f"{study}: {hits} kills, {'identical files' if not differing else 'DIFFERS in ' + ', '.join(differing)}")
        runs += 1
    say(f"{kills} kills of {runs} runs: " + ", ".join(f"{count} {name}" for name, count in stages.most_common()))
    say("all runs are identical to the uninterrupted one" if not failures else f"{failures} failures; see {Path.cwd()}")
    if not failures:
        shutil.rmtree(Path.cwd())
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(run())
