"""Kill a run at random moments, start it again each time, and compare what it leaves with an undisturbed run, byte for byte.

    python scripts/kill_and_resume.py --kills 100

Every moment counts: inside an attack, while a checkpoint is written, in the evaluation, while the record is written, before
anything began. The signals are SIGKILL, SIGTERM, SIGUSR1, SIGUSR2 and SIGINT in turn. The run starts by a fork of this process,
which has imported everything already, so that a hundred kills take minutes; a run that ended is begun anew until all kills are
spent.
Exits with status 1 where anything differs.
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

import temper.cli.run  # noqa: F401  # imported once, for every fork
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
    """The process id of a fork that runs temper-train, silently."""
    process = os.fork()
    if process:
        return process
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.argv = ["temper-train", f"study={study}", *RUN, *overrides]
    status = 1
    try:
        main()
        status = 0
    except SystemExit as ended:
        status = 0 if ended.code in (None, 0) else 1
    finally:
        os._exit(status)


def ended_well(process: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def kill_at(process: int, seconds: float, how: signal.Signals) -> bool:
    """Whether the signal met it alive."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    os.kill(process, how)
    ended_well(process)
    return True


def stage(folder: Path | None) -> str:
    """Where a run was when it was stopped, by what it had left."""
    if folder is None or not (folder / "checkpoints" / "last.ckpt").exists():
        return "before the first checkpoint"
    if any(folder.rglob("*.part")):
        return "while a file was written"
    log = (folder / "train.log").read_text() if (folder / "train.log").exists() else ""
    return "in the evaluation" if f"epoch {epochs()} of {epochs()}" in log.rpartition("resuming from")[2] else "in training"


def epochs() -> int:
    return int(next(argument for argument in RUN if "max_epochs" in argument).partition("=")[2])


def result(folder: Path) -> dict[str, Any]:
    """A record without study, clocks and commit, in which two runs may differ; and every byte of the outcomes per example."""
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


def compare(undisturbed: Path, killed: Path) -> list[str]:
    ours, theirs = result(undisturbed), result(killed)
    return [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


def run() -> int:
    options = parse()
    draw = random.Random(options.seed)
    os.chdir(tempfile.mkdtemp(prefix="temper-kills-"))
    since = time.monotonic()
    if not ended_well(start("undisturbed")):
        say("error: the undisturbed run failed; temper-train says why")
        return 1
    whole = time.monotonic() - since
    say(f"an undisturbed run takes {whole:.1f} s here")
    undisturbed = only_run("undisturbed")
    assert undisturbed is not None and RunRecord.read(undisturbed).finished
    kills, runs, bad = 0, 0, 0
    stages: Counter[str] = Counter()
    while kills < options.kills:
        study = f"killed-{runs}"
        hits = 0
        while kills < options.kills and hits < 12:
            process = start(study)
            began = time.monotonic()
            if not kill_at(process, whole * draw.uniform(0.1, 1), SIGNALS[kills % len(SIGNALS)]):
                whole = max(1.0, min(whole, 1.2 * (time.monotonic() - began)))  # the machine is faster now than it was
                break
            kills, hits = kills + 1, hits + 1
            stages[stage(only_run(study))] += 1
        if not ended_well(start(study)):
            say(f"{study}: the last start did not end well")
            bad += 1
        folder = only_run(study)
        assert folder is not None
        differing = compare(undisturbed, folder)
        bad += bool(differing)
        say(f"{study}: {hits} kills, {'equal to the byte' if not differing else 'DIFFERS in ' + ', '.join(differing)}")
        runs += 1
    say(f"{kills} kills of {runs} runs: " + ", ".join(f"{count} {name}" for name, count in stages.most_common()))
    say("every run ended as the undisturbed one" if not bad else f"{bad} runs did not; they lie in {Path.cwd()}")
    if not bad:
        shutil.rmtree(Path.cwd())
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(run())
