"""Sweeps on a real SLURM of one node: what is preempted, cancelled or out of time ends as if nothing had happened."""

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
    """The first of two neighbours, below the ports that the system gives to whoever connects."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)  # tests seed the other one
        with suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("", port))
            second.bind(("", port + 1))
            return port


@pytest.fixture(scope="session")
def cluster() -> Iterator[Callable[[str], None]]:
    """A cluster of its own for this process; call it to stop and start its controller."""
    if missing := [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if shutil.which(name) is None]:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("a cluster of one's own needs root")
    folder = Path(tempfile.mkdtemp(prefix="temper-slurm-"))
    folder.chmod(0o755)  # munged is another user, and pytest's folders are closed to it
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
    """Start `temper-train -m …` in an empty folder, in a process group of its own."""
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


def until(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 180
    while not (found := what()):
        assert time.monotonic() < deadline, "waited too long"
        assert process.poll() is None, ended(process)
        time.sleep(0.1)
    return found


def job_of(study: str) -> str:
    """The job that is in the middle of training."""
    trained = next(iter(Path("outputs", study).glob("*/seed-*/checkpoints/last.ckpt")), None)
    lines = subprocess.run(["squeue", "--me", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True)
    running = [line.split()[0] for line in lines.stdout.splitlines() if line.endswith("RUNNING")]
    return running[0] if trained and running else ""


def start_again(process: subprocess.Popen[str], *settings: str) -> None:
    """A requeued job: SLURM would let two minutes pass."""

    def pending() -> str:
        lines = subprocess.run(["squeue", "--me", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True)
        return next((line.split()[0] for line in lines.stdout.splitlines() if line.endswith("PENDING")), "")

    job = until(pending, process)
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now", *settings], check=True)


def logs(study: str) -> str:
    return "".join(path.read_text() for path in sorted(Path("outputs", study).glob("*/seed-*/train.log")))


def assert_as_undisturbed(study: str) -> None:
    """The records of this study equal those of the same runs, done here one after another."""
    folders = sorted(Path("outputs", study).glob("*/seed-*"))
    assert folders
    for folder in folders:
        twin = Path("outputs/undisturbed", *folder.parts[-2:])
        records = [untimed(twin), untimed(folder)]
        for record in records:
            record["config"]["study"] = record["study"] = ""
        assert records[0] == records[1]
        for array in (twin / "evaluations").rglob("*.npz"):
            assert array.read_bytes() == (folder / array.relative_to(twin)).read_bytes()


@pytest.fixture
def undisturbed(sweep: object) -> Callable[..., None]:
    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "temper.cli.train", "-m", "study=undisturbed", "hydra/launcher=basic", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    return run


Sweep = Callable[..., subprocess.Popen[str]]


def test_a_grid_with_a_job_that_fails(sweep: Sweep) -> None:
    process = sweep("study=grid", "attack=none,fgsm", "optimizer.lr=0.1,1e30", *QUICK, *SLURM)
    output = ended(process)
    assert process.returncode == 1 and "report: results/grid" in output, output
    assert output.count("failed: outputs/grid") == 2 and "diverged" in output
    records = [RunRecord.read(path.parent) for path in Path("outputs/grid").glob(f"*/seed-*/{RECORD}")]
    assert sorted(record.status for record in records) == ["failed", "failed", "finished", "finished"]


def test_several_runs_in_a_job(sweep: Sweep, undisturbed: Callable[..., None]) -> None:
    grid = ("seed=0,1,2,3", *QUICK)
    packed = (*SLURM[1:], "hydra/launcher=slurm_packed", "hydra.launcher.side_by_side=2", "hydra.launcher.runs_per_job=3")
    output = ended(process := sweep("study=packed", *grid, *packed))
    assert process.returncode == 0, output
    assert len(list(Path("outputs/packed/.submitit").glob("*/*_result.pkl"))) == 2, "two jobs"
    undisturbed(*grid)
    assert_as_undisturbed("packed")


def test_a_run_on_two_devices_is_two_tasks_of_one_job(sweep: Sweep) -> None:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "attack=pgd", *QUICK)
    output = ended(process := sweep("study=two", "seed=0,1", *two, *SLURM))
    assert process.returncode == 0, output
    records = [RunRecord.read(path.parent) for path in Path("outputs/two").glob(f"*/seed-*/{RECORD}")]
    assert [record.finished for record in records] == [True, True] and logs("two").count("epoch 2 of 2") == 2


def test_a_wrong_partition_is_an_error_and_not_a_wait(sweep: Sweep) -> None:
    output = ended(process := sweep("study=grid", *QUICK, *SLURM, "hydra.launcher.partition=nowhere"))
    assert process.returncode == 1 and "invalid partition" in output, output
    assert output.count("no run could be started") == 1 and "left no record" not in output


def test_a_cluster_that_takes_a_part_of_the_jobs(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has taken is waited for; the rest is submitted after that."""
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
def test_a_job_that_is_stopped_in_the_middle_goes_on(how: str, sweep: Sweep, undisturbed: Callable[..., None]) -> None:
    """Preempted, it is requeued by submitit; cancelled, the sweep submits it once more."""
    process = sweep(f"study={how}", *LONG, *SLURM)
    job = until(lambda: job_of(how), process)
    subprocess.run(["scancel", job, *(["--signal=USR2"] if how == "preempted" else [])], check=True)
    if how == "preempted":
        start_again(process)
    output = ended(process)
    assert process.returncode == 0, output
    assert "resuming from" in logs(how)
    undisturbed(*LONG)
    assert_as_undisturbed(how)


def test_the_time_limit_comes_in_the_middle(sweep: Sweep, undisturbed: Callable[..., None]) -> None:
    """SLURM tells the job before its time is over; it is requeued, and goes on."""
    undisturbed(*LONG)
    (folder,) = Path("outputs/undisturbed").glob("*/seed-*")
    record = RunRecord.read(folder)
    seconds = record.cost["seconds"]
    assert seconds is not None
    # Training has to last beyond the limit below, on a fast machine too.
    epochs = max(400, math.ceil(75 * record.epochs / seconds))
    long = [argument for argument in LONG if "max_epochs" not in argument] + [f"trainer.max_epochs={epochs}"]
    process = sweep("study=late", *long, *SLURM)
    job = until(lambda: job_of("late"), process)
    # A limit counts in minutes, and is looked at every half a minute: it is moved to where training is.
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=1"], check=True)
    start_again(process, "TimeLimit=10")
    output = ended(process)
    assert process.returncode == 0, output
    assert "resuming from" in logs("late")
    undisturbed(*long)
    assert_as_undisturbed("late")


def test_two_sweeps_share_one_study(sweep: Sweep, undisturbed: Callable[..., None]) -> None:
    grid = ("seed=0,1,2,3", *QUICK, "trainer.max_epochs=20")
    both = [sweep("study=shared", *grid, *SLURM) for _ in range(2)]
    outputs = [ended(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    trained = [logs("shared").count(f"epoch {epoch} of 20") for epoch in (1, 20)]
    assert trained == [4, 4], "each run was trained once"
    undisturbed(*grid)
    assert_as_undisturbed("shared")


def test_the_controller_goes_away_and_comes_back(
    sweep: Sweep, cluster: Callable[[str], None], undisturbed: Callable[..., None]
) -> None:
    grid = ("seed=0,1,2", *LONG)
    process = sweep("study=orphans", *grid, *SLURM)
    until(lambda: job_of("orphans"), process)
    cluster("controller-stop")
    try:
        time.sleep(8)
        assert process.poll() is None
    finally:
        cluster("controller-start")
    output = ended(process)
    assert process.returncode == 0 and logs("orphans").count("epoch 1 of 60") == 3, output
    undisturbed(*grid)
    assert_as_undisturbed("orphans")
