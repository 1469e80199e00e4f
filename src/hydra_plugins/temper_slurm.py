"""Hydra's submitit launcher for SLURM, for sweeps that outlive what happens on a cluster.

It adds to `hydra_plugins.hydra_submitit_launcher`: several runs in one job; arrays no longer than a cluster takes; and jobs
that are gone without a result (cancelled, out of memory, a node that failed) are noticed by asking SLURM's queue, where the
original would raise at the first while the others run, or wait for ever on a cluster that keeps no accounts.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

# What submitit calls the same on every kind of cluster; all else is SLURM's own.
COMMON = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout"}
LOOKS = 3  # at the queue before a job is taken for gone: results travel through the file system


class TemperSlurmLauncher(SlurmLauncher):
    """Submits runs as job arrays, and waits until each has left its result or SLURM knows it no more.

    Args:
        runs_per_job: how many runs a job does.
        side_by_side: how many of them at once, in processes of their own that share the job's GPU and cores.
        array_size: jobs in one array at most (SLURM's MaxArraySize is 1001 unless a cluster says otherwise).
        poll_s: seconds between two looks at the queue.
        submitit_folder, max_num_timeout, and all other settings of conf/hydra/launcher/slurm.yaml: submitit's.
    """

    isolates = True  # a job that is lost takes no other with it
    ended: Callable[[Sequence[str]], bool] | None = None  # whether the run of these overrides needs no job any more

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
                raise ValueError(f"hydra.launcher.{name}={value}: should be a number of at least {least}")
        if isinstance(params.get("setup"), str):
            raise ValueError(f'hydra.launcher.setup={params["setup"]}: should be a list, such as ["module load cuda"]')
        if side_by_side > runs_per_job:
            raise ValueError(
                f"hydra.launcher.side_by_side={side_by_side}, which runs_per_gpu sets, and a job has {runs_per_job} runs; "
                "take hydra/launcher=slurm_packed, or a greater hydra.launcher.runs_per_job"
            )
        if side_by_side > 1 and params.get("tasks_per_node", 1) > 1:
            raise ValueError(
                "hydra.launcher.side_by_side: runs on several devices each go one after another; leave it and runs_per_gpu at 1"
            )
        self.runs_per_job, self.side_by_side = runs_per_job, side_by_side
        self.array_size, self.poll_s = array_size, poll_s

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run the jobs.

        Returns:
            Nothing of them: what became of a run says its record.

        Raises:
            RuntimeError: SLURM took none, such as for an unknown partition.
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
            raise RuntimeError("there is no sbatch here: hydra/launcher=slurm is for the login node of a SLURM cluster")
        executor, jobs, refused = self._executor(), [], None
        for first in range(0, len(chunks), self.array_size):
            try:
                jobs += executor.map_array(_Job(self), chunks[first : first + self.array_size])
            except Exception as error:  # a limit of the cluster, often; what it has taken is waited for
                if not jobs:
                    raise
                refused = error
                break
        arrays = ", ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
        self._say(f"submitted: job {arrays}, {len(jobs)} of {len(chunks)} parts; squeue --me shows them")
        try:
            self._wait(jobs, [[arguments[0] for arguments in chunk] for chunk in chunks])
        except KeyboardInterrupt:
            self._say(f"the jobs go on; scancel --name={self.params['name']} ends them")
            raise
        if refused is not None:
            raise refused
        return []

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "ended"}  # that is of this process

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
        missed = dict.fromkeys(range(len(jobs)), 0)
        asked = time.monotonic()
        while missed:
            time.sleep(min(2.0, self.poll_s))
            missed = {number: count for number, count in missed.items() if not jobs[number].paths.result_pickle.exists()}
            if not missed or time.monotonic() - asked < self.poll_s:
                continue
            asked = time.monotonic()
            states = _queue()
            if states is None:
                continue  # the controller is away: jobs go on without it
            missed = {number: 0 if jobs[number].job_id in states else count + 1 for number, count in missed.items()}
            for number in missed:
                if states.get(jobs[number].job_id) == "PENDING" and self.ended and all(map(self.ended, runs[number])):
                    jobs[number].cancel(check=False)  # another sweep has done its runs
                    missed[number] = LOOKS
            missed = {number: count for number, count in missed.items() if count < LOOKS}


class _Job:
    """What a job does: its runs, one after another or side by side; resubmitted as it is when its time is up."""

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
    """Ids and states of this user's jobs that are pending, running or completing; None where the controller does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return dict(line.split() for line in done.stdout.splitlines()) if done.returncode == 0 else None
