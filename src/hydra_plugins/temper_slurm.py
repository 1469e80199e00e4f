"""Hydra's submitit launcher for SLURM, made robust against lost jobs.

It extends `hydra_plugins.hydra_submitit_launcher`: a job can do several runs, and arrays are no longer than the cluster
accepts. Jobs that end without a result (cancelled, out of memory, a failed node) are detected by polling SLURM's queue. The
original would raise at the first of them while others are running, or wait forever on a cluster without accounting.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

# Settings that submitit names alike for every kind of cluster; all others get the prefix slurm_.
COMMON = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout"}
MAX_MISSES = 3  # polls without a job before it counts as lost: results arrive through the file system with a delay


class TemperSlurmLauncher(SlurmLauncher):
    """Launcher that submits runs as job arrays and waits until each job has a result or has left SLURM's queue.

    Args:
        runs_per_job: number of runs in a job.
        side_by_side: number of these runs that are concurrent, in separate processes that share the job's GPU and cores.
        array_size: maximum number of jobs in one array (SLURM's MaxArraySize is 1001 by default).
        poll_s: seconds between two polls of the queue.
        **params: submitit_folder, max_num_timeout and all other settings of conf/hydra/launcher/slurm.yaml, for submitit.

    Raises:
        ValueError: a setting is wrong, or two of them do not fit together.
    """

    isolates = True  # a lost job takes no other run with it
    ended: Callable[[Sequence[str]], bool] | None = None  # returns True if the run with these overrides needs no job anymore

    def __init__(
        self, *, runs_per_job: int = 1, side_by_side: int = 1, array_size: int = 1000, poll_s: float = 30, **params: Any
    ) -> None:
        super().__init__(**params)
        for name, value, least in (
            ("runs_per_job", runs_per_job, 1),
            ("side_by_side", side_by_side, 1),
            ("array_size", array_size, 1),
            ("poll_s", poll_s, 0.1),
        ):
            if not isinstance(value, int | float) or value < least:
                raise ValueError(f"hydra.launcher.{name}={value}: should be a number of at least {least}.")
        if isinstance(params.get("setup"), str):
            raise ValueError(f'hydra.launcher.setup={params["setup"]}: should be a list, such as ["module load cuda"].')
        if side_by_side > runs_per_job:
            raise ValueError(
                f"hydra.launcher.side_by_side={side_by_side} (set by runs_per_gpu): exceeds hydra.launcher.runs_per_job="
                f"{runs_per_job}. Use hydra/launcher=slurm_packed, or increase hydra.launcher.runs_per_job."
            )
        if side_by_side > 1 and params.get("tasks_per_node", 1) > 1:
            raise ValueError(
                f"hydra.launcher.side_by_side={side_by_side}: is not supported for runs on several devices, which run one "
                "after another. Set runs_per_gpu=1."
            )
        self.runs_per_job, self.side_by_side = runs_per_job, side_by_side
        self.array_size, self.poll_s = array_size, poll_s

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Submit the runs and wait for them.

        Args:
            job_overrides: the overrides of each run.
            initial_job_idx: number of the first run.

        Returns:
            An empty list; results are in the records of the runs.

        Raises:
            RuntimeError: SLURM accepted no job, for example because of an unknown partition.
        """
        state = Singleton.get_state()
        chunks = [
            [
                (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
                for number, overrides in enumerate(job_overrides[first : first + self.runs_per_job], initial_job_idx + first)
            ]
            for first in range(0, len(job_overrides), self.runs_per_job)
        ]
        if shutil.which("sbatch") is None:
            raise RuntimeError(
                "hydra/launcher=slurm: sbatch is not installed here. Run it on the login node of a SLURM cluster."
            )
        executor, jobs, refused = self._executor(), [], None
        for first in range(0, len(chunks), self.array_size):
            try:
                jobs += executor.map_array(_Job(self), chunks[first : first + self.array_size])
            except Exception as error:  # often a limit of the cluster; accepted jobs are waited for
                if not jobs:
                    raise
                refused = error
                break
        arrays = ", ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
        self._say(f"submitted {len(jobs)} of {len(chunks)} SLURM jobs as array {arrays}; squeue --me lists them")
        try:
            self._wait(jobs, [[arguments[0] for arguments in chunk] for chunk in chunks])
        except KeyboardInterrupt:
            self._say(f"the SLURM jobs keep running; scancel --name={self.params['name']} cancels them")
            raise
        if refused is not None:
            raise refused
        return []

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "ended"}  # only valid in this process

    def _say(self, text: str) -> None:
        from temper.runs.terminal import say

        say(text)

    def _executor(self) -> Any:
        from submitit import AutoExecutor

        settings = dict(self.params)
        executor = AutoExecutor(
            folder=settings.pop("submitit_folder"),
            cluster="slurm",
            slurm_max_num_timeout=settings.pop("max_num_timeout"),
        )
        executor.update_parameters(**{key if key in COMMON else f"slurm_{key}": value for key, value in settings.items()})
        return executor

    def _wait(self, jobs: Sequence[Any], runs: Sequence[Sequence[list[str]]]) -> None:
        """Wait until every job has a result or is lost; pending jobs whose runs have ended elsewhere are cancelled."""
        misses = dict.fromkeys(range(len(jobs)), 0)
        polled = time.monotonic()
        while misses:
            time.sleep(min(2.0, self.poll_s))
            misses = {number: count for number, count in misses.items() if not jobs[number].paths.result_pickle.exists()}
            if not misses or time.monotonic() - polled < self.poll_s:
                continue
            polled = time.monotonic()
            states = _queue()
            if states is None:
                continue  # the controller is down: jobs continue without it
            misses = {number: 0 if jobs[number].job_id in states else count + 1 for number, count in misses.items()}
            for number in misses:
                if states.get(jobs[number].job_id) == "PENDING" and self.ended and all(map(self.ended, runs[number])):
                    jobs[number].cancel(check=False)  # another sweep has done its runs
                    misses[number] = MAX_MISSES
            misses = {number: count for number, count in misses.items() if count < MAX_MISSES}


class _Job:
    """A job: its runs, one after another or concurrently; it is resubmitted unchanged when its time is over."""

    def __init__(self, launcher: TemperSlurmLauncher) -> None:
        self.launcher = launcher

    def __call__(self, runs: Sequence[tuple[Any, ...]]) -> None:
        from joblib import Parallel, delayed

        run: Callable[..., Any] = self.launcher
        if self.launcher.side_by_side > 1 and len(runs) > 1:
            Parallel(n_jobs=self.launcher.side_by_side)(delayed(run)(*arguments) for arguments in runs)
        else:
            for arguments in runs:
                run(*arguments)

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *args, **kwargs)


def _queue() -> dict[str, str] | None:
    """Return the states of this user's pending, running or completing jobs by id; None if the controller does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else None
