"""temper-status: show the state of every run of a study, the work left, and the commands that complete it."""

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
from temper.runs.jobs import State, run_state
from temper.runs.lock import STARTED_FILE, lock_owner
from temper.runs.plans import Plan
from temper.runs.record import RECORD, RunRecord
from temper.runs.terminal import duration, say

# The states that can be determined without composing a run's config, in the order of the table's columns.
SHOWN = (State.FINISHED, State.RUNNING, State.FAILED, State.INTERRUPTED, State.UNEVALUATED, State.MISSING)


def main() -> None:
    """Run temper-status as a command."""
    entry.run(task)


@hydra.main(version_base="1.3", config_path=CONF, config_name="status")
def task(config: DictConfig) -> None:
    """Print the status of a study."""
    study = study_folder(config)
    for line in describe(study, int(config.lines)):
        say(line)


class Run(NamedTuple):
    """State of one run on disk.

    Attributes:
        folder: the run's folder.
        attack: name of the training attack.
        state: finished, running, failed, …
        seconds: wall-clock time; None: the run is not finished.
        error: first line of its error; None: the run did not fail.
    """

    folder: Path
    attack: str
    state: State
    seconds: float | None
    error: str | None


def describe(study: Path, lines: int) -> list[object]:
    """Return the lines of a study's status: a table of cells, running and failed runs, time left, commands that complete it.

    Args:
        study: the study's folder.
        lines: maximal number of cells, and of runs of each state, to list.
    """
    plans = Plan.read_all(study)
    runs = runs_of(study, plans)
    settings = {study / run.folder: run.setting for plan in plans for run in plan.runs}
    output: list[object] = [_table(runs, settings, lines)]
    for state, line_of in ((State.RUNNING, _running), (State.FAILED, _failed)):
        matching = [run for run in runs if run.state is state]
        output += [line_of(run) for run in matching[:lines]]
        if len(matching) > lines:
            output.append(f"… and {len(matching) - lines} more {state}; show them with lines={len(matching)}")
    counts = Counter(run.state for run in runs)
    output.append(f"{len(runs)} runs: " + ", ".join(f"{counts[state]} {state}" for state in SHOWN if counts[state]))
    unfinished = [run for run in runs if run.state is not State.FINISHED]
    if unfinished and (work := _time_left(runs, unfinished)):
        output.append(work)
    queued = _queued(study)
    if queued:
        output.append(f"{queued} jobs of study {study.name} are pending in the SLURM queue")
    missing = {run.folder for run in unfinished}
    open_plans = [plan for plan in plans if any(study / planned.folder in missing for planned in plan.runs)]
    if not queued and any(run.state is not State.RUNNING for run in unfinished):  # queued jobs will complete the study
        if open_plans:
            output += ["to complete the study, run:", *dict.fromkeys(f"  {_command(plan)}" for plan in open_plans)]
        else:
            output.append("to complete the study, run the original command again")
    return output


def _queued(study: Path) -> int:
    """Return the number of pending SLURM jobs of a study; 0 where SLURM is absent or does not respond."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=PENDING", f"--name=temper-{study.name}", "--format=%i"]
    try:
        return len(subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split())
    except (OSError, subprocess.SubprocessError):
        return 0


def runs_of(study: Path, plans: Sequence[Plan]) -> list[Run]:
    """Return every run that a study's plans contain, and every other run in its folder."""
    suites = {study / run.folder: run for plan in reversed(plans) for run in plan.runs}
    folders = [path.parent for path in study.glob(f"*/seed-*/{RECORD}")]
    folders += [path.parents[1] for path in study.glob("*/seed-*/checkpoints/last.ckpt")]
    unplanned = {
        folder for folder in folders if folder not in suites and folder.name.removeprefix("seed-").lstrip("-").isdecimal()
    }
    runs = [_run(folder, planned.suite, planned.attack) for folder, planned in suites.items()]
    return runs + [_run(folder, None, folder.parent.name.partition("+")[0]) for folder in sorted(unplanned)]


def _run(folder: Path, suite: str | None, attack: str) -> Run:
    try:
        record = RunRecord.read(folder)
    except (OSError, ValueError):
        record = None
    if suite is None:  # not planned: any suite that it was evaluated by
        suite = next(iter(record.evaluations), "") if record else ""
    state = run_state(folder, suite)[0]
    seconds = record.cost.get("wall_seconds") if record and record.finished else None
    error = record.error.strip().splitlines()[0] if record and record.error and state is State.FAILED else None
    return Run(folder, attack, state, seconds, error)


def _table(runs: Sequence[Run], settings: Mapping[Path, str], lines: int) -> Table:
    """Return a table with a row for each cell; unfinished cells come first if there are more cells than lines."""
    cells: dict[tuple[str, str], Counter[State]] = {}
    for run in runs:
        cells.setdefault((run.folder.parent.name, settings.get(run.folder, "")), Counter())[run.state] += 1
    rows = list(cells.items())
    columns = ["cell", *(["setting"] if any(setting for _, setting in cells) else [])]
    if len(rows) > lines:
        rows.sort(key=lambda row: set(row[1]) == {State.FINISHED})
    states = [state for state in SHOWN if any(counts[state] for counts in cells.values())]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for state in states:
        table.add_column(str(state), justify="right")
    for name, counts in rows[:lines]:
        table.add_row(*name[: len(columns)], *(str(counts[state] or "·") for state in states))
    if len(rows) > lines:
        table.add_row(f"… and {len(rows) - lines} more cells")
    return table


def _running(run: Run) -> str:
    try:
        since = f" for {duration(time.time() - (run.folder / STARTED_FILE).stat().st_mtime)}"
    except OSError:
        since = ""
    return f"running: {_short(run.folder)}{since}, {lock_owner(run.folder) or 'ending'}{_last_epoch(run.folder)}"


def _last_epoch(folder: Path) -> str:
    """Return ", epoch E of N" from the last line of a run's log that names an epoch, or an empty string."""
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


def _time_left(runs: Sequence[Run], unfinished: Sequence[Run]) -> str | None:
    """Return the estimated serial run time of unfinished runs, or None without a finished run.

    The estimate for a run is the mean of the finished runs with the same attack, or of all finished runs.
    """
    times: dict[str, list[float]] = {}
    for run in runs:
        if run.seconds:
            times.setdefault(run.attack, []).append(run.seconds)
    if not times:
        return None
    means = {attack: sum(values) / len(values) for attack, values in times.items()}
    overall = sum(map(sum, times.values())) / sum(map(len, times.values()))
    rest = sum(means.get(run.attack, overall) for run in unfinished)
    each = ", ".join(f"{attack} {duration(mean)}" for attack, mean in sorted(means.items()))
    return f"mean time of a run: {each}; about {duration(rest)} of compute time left"


def _command(plan: Plan) -> str:
    elsewhere = Path(plan.cwd) != Path.cwd()
    return f"cd {plan.cwd} && {plan.command}" if elsewhere else plan.command


if __name__ == "__main__":
    main()
