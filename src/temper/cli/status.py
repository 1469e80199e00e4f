"""temper-status: how far a study is: what is done, runs, failed or is missing, for how long, and what fills the holes."""

import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import hydra
from omegaconf import DictConfig
from rich.table import Table

from temper.cli import entry
from temper.config.composed import CONF, study_folder
from temper.runs.jobs import State, state_of
from temper.runs.lock import BEGUN, lock_owner
from temper.runs.plans import Plan
from temper.runs.record import RECORD, RunRecord
from temper.runs.terminal import duration, say

# In this order; what a run can be told apart by without composing its config.
SHOWN = (State.FINISHED, State.RUNNING, State.FAILED, State.INTERRUPTED, State.UNEVALUATED, State.MISSING)


def main() -> None:
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="status")
def task(config: DictConfig) -> None:
    study = study_folder(config)
    for line in describe(study, int(config.lines)):
        say(line)


class Run(NamedTuple):
    """One run as it lies there: its folder, how far it is, the seconds that it took, and what its error says."""

    folder: Path
    attack: str
    state: State
    seconds: float | None
    error: str | None


def describe(study: Path, lines: int) -> list[object]:
    """What there is to say of a study: a table of its cells, its runs that run or failed, the time, and the commands."""
    plans = Plan.all_of(study)
    runs = runs_of(study, plans)
    settings = {study / run.folder: run.setting for plan in plans for run in plan.runs}
    told: list[object] = [_table(runs, settings, lines)]
    for state, word in ((State.RUNNING, _running), (State.FAILED, _failed)):
        some = [run for run in runs if run.state is state]
        told += [word(run) for run in some[:lines]]
        if len(some) > lines:
            told.append(f"… and {len(some) - lines} more {state}; lines={len(some)} shows them")
    counts = Counter(run.state for run in runs)
    told.append(f"{len(runs)} runs: " + ", ".join(f"{counts[state]} {state}" for state in SHOWN if counts[state]))
    left = [run for run in runs if run.state is not State.FINISHED]
    if left and (work := _work(runs, left)):
        told.append(work)
    queued = _queued(study)
    if queued:
        told.append(f"{queued} jobs of {study.name} wait in SLURM's queue")
    open_plans = [plan for plan in plans if any(run.folder in _folders(study, plan) for run in left)]
    waiting = [run for run in left if run.state is not State.RUNNING]
    if queued:
        pass  # they are to fill the holes
    elif waiting and open_plans:
        told += ["to fill the holes:", *dict.fromkeys(f"  {_typed(plan)}" for plan in open_plans)]
    elif waiting:
        told.append("to fill the holes: the command that began them, again")
    return told


def _queued(study: Path) -> int:
    """How many jobs of a study's sweeps SLURM has yet to start, where there is a SLURM that answers."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=PENDING", f"--name=temper-{study.name}", "--format=%i"]
    try:
        return len(subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split())
    except (OSError, subprocess.SubprocessError):
        return 0


def runs_of(study: Path, plans: Sequence[Plan]) -> list[Run]:
    """Every run that a study was asked for, and those that lie there unasked."""
    suites = {study / run.folder: run for plan in reversed(plans) for run in plan.runs}
    there = [path.parent for path in study.glob(f"*/seed-*/{RECORD}")]
    there += [path.parents[1] for path in study.glob("*/seed-*/checkpoints/last.ckpt")]
    unasked = {folder for folder in there if folder not in suites and folder.name.removeprefix("seed-").lstrip("-").isdecimal()}
    runs = [_run(folder, asked.suite, asked.attack) for folder, asked in suites.items()]
    return runs + [_run(folder, None, folder.parent.name.partition("+")[0]) for folder in sorted(unasked)]


def _run(folder: Path, suite: str | None, attack: str) -> Run:
    try:
        record = RunRecord.read(folder)
    except (OSError, ValueError):
        record = None
    if suite is None:  # whichever it was evaluated by
        suite = next(iter(record.evaluations), "") if record else ""
    state = state_of(folder, suite)[0]
    seconds = record.cost.get("wall_seconds") if record and record.finished else None
    error = record.error.strip().splitlines()[0] if record and record.error and state is State.FAILED else None
    return Run(folder, attack, state, seconds, error)


def _folders(study: Path, plan: Plan) -> set[Path]:
    return {study / run.folder for run in plan.runs}


def _table(runs: Sequence[Run], settings: Mapping[Path, str], lines: int) -> Table:
    """A row for each cell; of a study too long for that, those cells that are not finished come first."""
    cells: dict[tuple[str, str], Counter[State]] = {}
    for run in runs:
        cells.setdefault((run.folder.parent.name, settings.get(run.folder, "")), Counter())[run.state] += 1
    rows = list(cells.items())
    told_apart = ["setting"] if any(setting for _, setting in cells) else []
    if len(rows) > lines:
        rows.sort(key=lambda row: set(row[1]) == {State.FINISHED})
    there = [state for state in SHOWN if any(counts[state] for counts in cells.values())]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("cell", *told_apart):
        table.add_column(column, no_wrap=True)
    for state in there:
        table.add_column(str(state), justify="right")
    for name, counts in rows[:lines]:
        table.add_row(*name[: 1 + len(told_apart)], *(str(counts[state] or "·") for state in there))
    if len(rows) > lines:
        table.add_row(f"… and {len(rows) - lines} more cells")
    return table


def _running(run: Run) -> str:
    try:
        since = f" for {duration(time.time() - (run.folder / BEGUN).stat().st_mtime)}"
    except OSError:
        since = ""
    return f"running: {_short(run.folder)}{since}, {lock_owner(run.folder) or 'ending'}{_last_epoch(run.folder)}"


def _last_epoch(folder: Path) -> str:
    try:
        with (folder / "train.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    last = next((line for line in reversed(lines) if " epoch " in line and " of " in line), None)
    return "" if last is None else ", " + last.partition(": ")[2].partition(":")[0].strip()


def _failed(run: Run) -> str:
    return f"failed: {_short(run.folder)}: {run.error}"


def _short(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _work(runs: Sequence[Run], left: Sequence[Run]) -> str | None:
    """How long the rest would take one after another, by the mean of finished runs of the same attack, else of any."""
    took: dict[str, list[float]] = {}
    for run in runs:
        if run.seconds:
            took.setdefault(run.attack, []).append(run.seconds)
    if not took:
        return None
    means = {attack: sum(values) / len(values) for attack, values in took.items()}
    anything = sum(map(sum, took.values())) / sum(map(len, took.values()))
    rest = sum(means.get(run.attack, anything) for run in left)
    each = ", ".join(f"{attack} {duration(mean)}" for attack, mean in sorted(means.items()))
    return f"a run takes about {each}; {duration(rest)} of work are left"


def _typed(plan: Plan) -> str:
    elsewhere = Path(plan.cwd) != Path.cwd()
    return f"cd {plan.cwd} && {plan.command}" if elsewhere else plan.command


if __name__ == "__main__":
    main()
