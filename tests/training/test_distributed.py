"""Tests of one run on two devices: the same steps as on one device, one record, every example counted once."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from temper.data import DataModule
from temper.data.loader import Loader
from temper.data.sources import DataError
from temper.runs.record import RECORD, RunRecord
from temper.training.distributed import LaunchDecision, broadcast_decision, device_count, receive_decision
from tests.conftest import QUICK, QUICK_TABLE, QUICK_TEXTS, alive

Temper = Callable[..., tuple[int, str]]
TWO_DEVICES = ("trainer=ddp", "trainer.accelerator=cpu")
# Nothing random per device: the attack starts at the input, no dropout. 203 examples leave a last batch of 11.
DETERMINISTIC = ("attack=pgd", "attack.start=zero", "trainer.max_epochs=3", "optimizer.lr=0.05")
SETTINGS = (*QUICK, *DETERMINISTIC, "data.train_size=203")


def train(study: str, *arguments: str) -> tuple[dict[str, torch.Tensor], RunRecord, str]:
    """Run temper-train in a new process; return the last checkpoint's weights, the record and the output."""
    command = [sys.executable, "-m", "temper.cli.train", f"study={study}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    (folder,) = Path("outputs", study).glob("*/seed-*")
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state, RunRecord.read(folder), result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        (*SETTINGS, "penalty=l2"),
        (*SETTINGS, "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5"),
        (*SETTINGS, "penalty=batch_norm", "attack.mode=train"),
        (*QUICK_TABLE, *DETERMINISTIC),
        (*QUICK_TEXTS, *DETERMINISTIC, "data.batch_size=16", "attack.threat=${data.threats.l2}"),
    ],
    ids=["penalty", "accumulated", "batch_norm", "table", "texts"],
)
def test_two_devices_take_the_steps_of_one(settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the weights after twelve steps, to 1e-4 of the largest.

    Sums over a batch are in another order, and signs of gradients near 0 may flip. Without synchronized batch norm the weights
    differ by far more.
    """
    monkeypatch.chdir(tmp_path)
    one, record, _ = train("one", *settings)
    two, record_of_two, output = train("two", *settings, *TWO_DEVICES)
    assert one.keys() == two.keys()
    for name in one:
        if name.startswith("net.") and one[name].is_floating_point():
            largest = max(1.0, float(one[name].abs().max()))
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-4 * largest, msg=name)
    for name, values in record.curves.items():
        if name.startswith("train/ratio"):
            continue  # norms of the gradients of each device's part of the batch, which are noisier and so longer
        assert record_of_two.curves[name] == pytest.approx(values, abs=0.01), name
    assert record_of_two.cost["gradient_evaluations"] == record.cost["gradient_evaluations"]
    tested = 30 if "data=csv_text" in settings else 60
    assert output.count("epoch 1 of 3") == 1, "rank 0 logs for both"
    # The record is written once, and the evaluation counts each example once.
    for evaluation, folder in zip(record_of_two.evaluations, Path("outputs/two").glob("*/seed-*"), strict=True):
        with np.load(folder / "evaluations" / evaluation / "last.npz") as arrays:
            assert {len(arrays[name]) for name in arrays.files if name in ("clean", "y", "index")} <= {tested}
    assert len(list(Path("outputs/two").glob(f"*/seed-*/{RECORD}"))) == 1


@pytest.mark.slow
def test_unsynchronized_batch_norm_gives_different_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, _, _ = train("one", *SETTINGS, "penalty=batch_norm")
    two, _, _ = train("two", *SETTINGS, "penalty=batch_norm", *TWO_DEVICES, "trainer.sync_batchnorm=false")
    assert max(float((one[n] - two[n]).abs().max()) for n in one if n.startswith("net.") and one[n].is_floating_point()) > 1e-3


@pytest.mark.slow
def test_killed_run_resumes_on_two_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill rank 0: the other rank exits too, and the same command resumes to the same weights."""
    monkeypatch.chdir(tmp_path)
    long = (*SETTINGS, "trainer.max_epochs=12", "attack.start=uniform", "penalty=dropout", *TWO_DEVICES)
    uninterrupted, _, _ = train("uninterrupted", *long)
    process = subprocess.Popen(
        [sys.executable, "-m", "temper.cli.train", "study=killed", *long],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("epoch 4 "))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while alive("-s", str(process.pid)):
        assert time.monotonic() < deadline, "rank 1 is still running"
        time.sleep(0.5)
    killed, _, output = train("killed", *long)
    assert "resuming from" in output
    assert all(torch.equal(uninterrupted[name], killed[name]) for name in uninterrupted if name.startswith("net."))


def test_sweep_with_several_devices_is_rejected(temper: Temper) -> None:
    status, output = temper("train", "-m", "seed=0,1", *TWO_DEVICES, *QUICK)
    assert status == 1 and "trainer.devices=2: each run of a local sweep" in output and "hydra/launcher=slurm" in output
    assert not list(Path().rglob("*.ckpt"))


def test_batches_of_all_ranks_make_up_the_batch(digits: DataModule) -> None:
    x, y = digits.split("train")
    whole = list(Loader(x[:203], y[:203], batch_size=64, seed=3))
    parts = [list(Loader(x[:203], y[:203], batch_size=64, seed=3, rank=rank, world_size=3)) for rank in range(3)]
    for number, batch in enumerate(whole):
        pieces = [part[number] for part in parts]
        assert sorted(torch.cat([part.index for part in pieces]).tolist()) == sorted(batch.index.tolist())
        # The weighted mean over devices is the mean over the batch.
        mean = sum(part.rank_weight * float(part.x.mean((1, 2, 3)).mean()) for part in pieces) / 3
        assert mean == pytest.approx(float(batch.x.mean()), rel=1e-5)
    with pytest.raises(DataError, match=r"data\.batch_size=64: .* 2 of 66 examples for 3 devices"):
        Loader(x[:66], y[:66], batch_size=64, world_size=3)


def test_device_count() -> None:
    assert [device_count(devices) for devices in (1, "1", 2, [0], [0, 3])] == [1, 1, 2, 1, 2]
    assert device_count(-1) > 1 and device_count("auto") > 1


def test_ranks_receive_the_decision_of_rank_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temper.training.distributed.LAUNCH_TIMEOUT", 0.5)
    monkeypatch.setenv("TEMPER_FIRST_RANK", str(os.getpid()))
    with broadcast_decision(tmp_path, several=True) as announce:
        with pytest.raises(TimeoutError, match="Did rank 0 die"):
            receive_decision(tmp_path)
        announce(LaunchDecision(train=True, checkpoint="last.ckpt"))
        assert receive_decision(tmp_path) == LaunchDecision(train=True, checkpoint="last.ckpt")
    with pytest.raises(RuntimeError), broadcast_decision(tmp_path, several=True):
        raise RuntimeError("before anything was decided")
    assert receive_decision(tmp_path) == LaunchDecision(train=False)


def test_per_example_stopping_is_rejected_with_synchronized_batch_norm(temper: Temper) -> None:
    settings = ("attack=pgd", "attack.stop_after=1", "penalty=batch_norm", *TWO_DEVICES)
    status, output = temper("train", *SETTINGS, *settings, "attack.mode=train", "trainer.sync_batchnorm=true")
    message = "attack.stop_after=1: is not supported with attack.mode=train and trainer.sync_batchnorm=true"
    assert status == 1 and message in output
