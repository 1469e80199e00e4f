"""Sweeps on a real SLURM cluster of one node: preempted, cancelled or timed-out jobs give the same results."""

import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from temper.runs.record import RECORD, RunRecord
from tests.cli.test_run import untimed
from tests.conftest import QUICK, REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

CLUSTER = REPOSITORY / "scripts" / "slurm_cluster.sh"
SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=1",
    "hydra.launcher.poll_s=1",
    "hydra.launcher.signal_delay_s=30",
)
LONG = (*QUICK, "attack=pgd", "penalty=dropout", "trainer.max_epochs=60", "data.train_size=null")


def free_ports() -> int:
    """Return the first of two adjacent free ports below the range of ephemeral ports."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)  # the global generator is seeded by tests
        with suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("", port))
            second.bind(("", port + 1))
            return port


@pytest.fixture(scope="session")
def cluster() -> Iterator[Callable[[str], None]]:
    """Start a cluster for this process; the returned function stops and starts its controller."""
    if missing := [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if shutil.which(name) is None]:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("starting a cluster needs root")
    folder = Path(tempfile.mkdtemp(prefix="temper-slurm-"))
    folder.chmod(0o755)  # munged runs as another user, who cannot read pytest's folders
    environment = os.environ | {"PORT": str(free_ports())}

    def control(command: str) -> None:
        subprocess.run([CLUSTER, command, folder], check=True, env=environment)

    try:
        control("start")
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        yield control
    finally:
        os.environ.pop("SLURM_CONF", None)
        control("stop")
        shutil.rmtree(folder, ignore_errors=True)  # a job's last process may still write there


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: object) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts `temper-train -m …` in an empty folder and a new process group."""
    monkeypatch.chdir(tmp_path)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "temper.cli.train", "-m", *arguments]
        started.append(subprocess.Popen(command, stdout=-1, stderr=subprocess.STDOUT, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(["scancel", "--quiet", "--me"], check=False)


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    return output


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 180
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        assert process.poll() is None, ended(process)
        time.sleep(0.1)
    return value


def job_of(study: str) -> str:
    """Return the id of a job that is training, or an empty text."""
    trained = next(iter(Path("outputs", study).glob("*/seed-*/checkpoints/last.ckpt")), None)
    lines = subprocess.run(["squeue", "--me", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True)
    running = [line.split()[0] for line in lines.stdout.splitlines() if line.endswith("RUNNING")]
    return running[0] if trained and running else ""


def restart(process: subprocess.Popen[str], *settings: str) -> None:
    """Start a requeued job at once; SLURM would wait for two minutes."""

    def pending() -> str:
        lines = subprocess.run(["squeue", "--me", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True)
        return next((line.split()[0] for line in lines.stdout.splitlines() if line.endswith("PENDING")), "")

    job = wait_for(pending, process)
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now", *settings], check=True)


def logs(study: str) -> str:
    return "".join(path.read_text() for path in sorted(Path("outputs", study).glob("*/seed-*/train.log")))


def assert_equal_to_uninterrupted(study: str) -> None:
    """Compare the records of a study with those of the same runs without SLURM."""
    folders = sorted(Path("outputs", study).glob("*/seed-*"))
    assert folders
    for folder in folders:
        expected = Path("outputs/uninterrupted", *folder.parts[-2:])
        records = [untimed(expected), untimed(folder)]
        for record in records:
            record["config"]["study"] = record["study"] = ""
        assert records[0] == records[1]
        for array in (expected / "evaluations").rglob("*.npz"):
            assert array.read_bytes() == (folder / array.relative_to(expected)).read_bytes()


@pytest.fixture
def uninterrupted(sweep: object) -> Callable[..., None]:
    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "temper.cli.train", "-m", "study=uninterrupted", "hydra/launcher=basic", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    return run


Sweep = Callable[..., subprocess.Popen[str]]


def test_a_grid_with_failed_runs(sweep: Sweep) -> None:
    process = sweep("study=grid", "attack=none,fgsm", "optimizer.lr=0.1,1e30", *QUICK, *SLURM)
    output = ended(process)
    assert process.returncode == 1 and "report: results/grid" in output, output
    assert output.count("failed: outputs/grid") == 2 and "diverged" in output
    records = [RunRecord.read(path.parent) for path in Path("outputs/grid").glob(f"*/seed-*/{RECORD}")]
    assert sorted(record.status for record in records) == ["failed", "failed", "finished", "finished"]


def test_several_runs_in_a_job(sweep: Sweep, uninterrupted: Callable[..., None]) -> None:
    grid = ("seed=0,1,2,3", *QUICK)
    packed = (*SLURM[1:], "hydra/launcher=slurm_packed", "hydra.launcher.side_by_side=2", "hydra.launcher.runs_per_job=3")
    output = ended(process := sweep("study=packed", *grid, *packed))
    assert process.returncode == 0, output
    assert len(list(Path("outputs/packed/.submitit").glob("*/*_result.pkl"))) == 2, "two jobs"
    uninterrupted(*grid)
    assert_equal_to_uninterrupted("packed")


def test_a_run_on_two_devices_is_one_job_with_two_tasks(sweep: Sweep) -> None:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "attack=pgd", *QUICK)
    output = ended(process := sweep("study=two", "seed=0,1", *two, *SLURM))
    assert process.returncode == 0, output
    records = [RunRecord.read(path.parent) for path in Path("outputs/two").glob(f"*/seed-*/{RECORD}")]
    assert [record.finished for record in records] == [True, True] and logs("two").count("epoch 2 of 2") == 2


def test_a_wrong_partition_is_an_error(sweep: Sweep) -> None:
    output = ended(process := sweep("study=grid", *QUICK, *SLURM, "hydra.launcher.partition=nowhere"))
    assert process.returncode == 1 and "invalid partition" in output, output
    assert output.count("no run could be started") == 1 and "left no record" not in output


def test_a_cluster_that_accepts_a_part_of_the_jobs(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep waits for the accepted jobs, then submits the others."""
    refusing = tmp_path / "bin" / "sbatch"
    refusing.parent.mkdir()
    refusing.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/second ] || {{ [ -e {tmp_path}/first ] && touch {tmp_path}/second && "
        f'echo QOSMaxSubmitJobPerUserLimit >&2 && exit 1; touch {tmp_path}/first; }}\nexec {shutil.which("sbatch")} "$@"\n'
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{refusing.parent}:{os.environ['PATH']}")
    output = ended(process := sweep("study=part", "seed=0,1,2,3", *QUICK, *SLURM, "hydra.launcher.array_size=2"))
    assert process.returncode == 0 and "QOSMaxSubmitJobPerUserLimit" in output, output
    assert logs("part").count("epoch 2 of 2") == 4


@pytest.mark.parametrize("how", ["preempted", "cancelled"])
def test_a_stopped_job_resumes(how: str, sweep: Sweep, uninterrupted: Callable[..., None]) -> None:
    """A preempted job is requeued by submitit; a cancelled job is submitted again by the sweep."""
    process = sweep(f"study={how}", *LONG, *SLURM)
    job = wait_for(lambda: job_of(how), process)
    subprocess.run(["scancel", job, *(["--signal=USR2"] if how == "preempted" else [])], check=True)
    if how == "preempted":
        restart(process)
    output = ended(process)
    assert process.returncode == 0, output
    assert "resuming from" in logs(how)
    uninterrupted(*LONG)
    assert_equal_to_uninterrupted(how)


def test_a_job_that_reaches_its_time_limit_resumes(sweep: Sweep, uninterrupted: Callable[..., None]) -> None:
    """SLURM signals the job before its time limit; it is requeued and resumes."""
    uninterrupted(*LONG)
    (folder,) = Path("outputs/uninterrupted").glob("*/seed-*")
    record = RunRecord.read(folder)
    seconds = record.cost["seconds"]
    assert seconds is not None
    # Training must last longer than the time limit below, on a fast machine too.
    epochs = max(400, math.ceil(75 * record.epochs / seconds))
    long = [argument for argument in LONG if "max_epochs" not in argument] + [f"trainer.max_epochs={epochs}"]
    process = sweep("study=late", *long, *SLURM)
    job = wait_for(lambda: job_of("late"), process)
    # Time limits are in minutes and are checked every 30 s, so the limit is set during training.
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=1"], check=True)
    restart(process, "TimeLimit=10")
    output = ended(process)
    assert process.returncode == 0, output
    assert "resuming from" in logs("late")
    uninterrupted(*long)
    assert_equal_to_uninterrupted("late")


def test_two_sweeps_share_one_study(sweep: Sweep, uninterrupted: Callable[..., None]) -> None:
    grid = ("seed=0,1,2,3", *QUICK, "trainer.max_epochs=20")
    both = [sweep("study=shared", *grid, *SLURM) for _ in range(2)]
    outputs = [ended(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    trained = [logs("shared").count(f"epoch {epoch} of 20") for epoch in (1, 20)]
    assert trained == [4, 4], "each run is trained once"
    uninterrupted(*grid)
    assert_equal_to_uninterrupted("shared")


def test_a_restart_of_the_controller_loses_no_job(
    sweep: Sweep, cluster: Callable[[str], None], uninterrupted: Callable[..., None]
) -> None:
    grid = ("seed=0,1,2", *LONG)
    process = sweep("study=orphans", *grid, *SLURM)
    wait_for(lambda: job_of("orphans"), process)
    cluster("controller-stop")
    try:
        time.sleep(8)
        assert process.poll() is None
    finally:
        cluster("controller-start")
    output = ended(process)
    assert process.returncode == 0 and logs("orphans").count("epoch 1 of 60") == 3, output
    uninterrupted(*grid)
    assert_equal_to_uninterrupted("orphans")
