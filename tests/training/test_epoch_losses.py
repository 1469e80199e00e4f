"""Tests of divergence: a loss that is not finite ends the run, the record says where, and saved checkpoints stay finite."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from temper.attacks import Attack
from temper.data import Batch
from temper.runs.record import RunRecord
from temper.training import epoch_losses
from temper.training.classifier import Classifier
from tests.conftest import QUICK

Temper = Callable[..., tuple[int, str]]
SETTINGS = (*QUICK, "trainer.max_epochs=4", "data.batch_size=20", "attack=fgsm")  # ten steps an epoch


def only_run() -> Path:
    (folder,) = Path("outputs", "default").glob("*/seed-*")
    return folder


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 23])
def test_record_names_the_step_and_the_last_finite_loss(
    bad: float, step: int, temper: Temper, monkeypatch: pytest.MonkeyPatch
) -> None:
    risk, seen = Attack.risk, []

    def broken(self: Attack, net: object, batch: Batch, x_adv: Tensor) -> Tensor:
        value = risk(self, net, batch, x_adv)  # type: ignore[arg-type]
        seen.append(float(value.detach().mean()))
        return value * bad if len(seen) == step + 1 else value

    monkeypatch.setattr(Attack, "risk", broken)
    monkeypatch.setattr(epoch_losses, "CHECK_INTERVAL", 2)
    assert temper("train", *SETTINGS)[0] == 1
    record = RunRecord.read(only_run())
    assert not record.finished and record.error is not None
    assert f"diverged at epoch {step // 10}, step {step}" in record.error and "will diverge again" in record.error
    assert len(seen) <= step + 3, "training stops before the epoch ends"
    if step:
        assert f"(last finite loss {seen[step - 1]:.4g})" in record.error
        for name in ("best", "last"):
            checkpoint = torch.load(only_run() / f"checkpoints/{name}.ckpt", weights_only=True)
            assert checkpoint["epoch"] <= 1
            assert all(v.isfinite().all() for v in checkpoint["state_dict"].values() if isinstance(v, Tensor))
    else:
        assert "No checkpoint was saved" in record.error and not list(only_run().rglob("*.ckpt"))


def test_weights_that_diverge_in_the_last_step_are_not_saved(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Classifier.optimizer_step

    def broken(self: Classifier, *arguments: object, **named: object) -> None:
        step(self, *arguments, **named)
        if self.trainer.current_epoch == 1 and self.trainer.is_last_batch:
            next(self.net.parameters()).data[0] = float("nan")

    monkeypatch.setattr(Classifier, "optimizer_step", broken)
    assert temper("train", *SETTINGS)[0] == 1
    error = RunRecord.read(only_run()).error
    assert error is not None and "epoch 1, step 20" in error and "weights are not finite" in error
    assert torch.load(only_run() / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 0


def test_training_resumes_from_the_last_finite_checkpoint_at_a_lower_rate(
    temper: Temper, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(Classifier, "on_train_epoch_start", lambda self: poison(self) if self.current_epoch == 2 else None)
        assert temper("train", *SETTINGS, "schedule=constant", "optimizer.lr=0.1")[0] == 1
    error = RunRecord.read(only_run()).error
    assert error is not None
    path = re.search(r"ckpt_path=(\S+)", error)
    assert path is not None
    settings = (*SETTINGS, "schedule=constant", "optimizer.lr=0.01", "study=next", f"ckpt_path={path[1]}")
    status, output = temper("train", *settings)
    assert status == 0, output
    (checkpoint,) = Path("outputs/next").rglob("last.ckpt")
    state = torch.load(checkpoint, weights_only=True)
    assert state["epoch"] == 3 and state["global_step"] == 40
    (optimizer,), (schedule,) = state["optimizer_states"], state["lr_schedulers"]
    assert {group["lr"] for group in optimizer["param_groups"]} == {0.01} and schedule["base_lrs"] == [0.01]


def poison(module: Classifier) -> None:
    next(module.net.parameters()).data[0] = float("nan")
