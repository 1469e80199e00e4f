"""Tests of EMA, SWA and early stopping against averages that are computed over a whole fit."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from temper.config.errors import ConfigError
from temper.penalties import EMA, SWA, EarlyStopping
from temper.training.modules import build_penalties, load
from tests.penalties.conftest import checkpoint, composed, fit, flat


class Watch(Callback):
    """Callback that records the trained weights after each step and epoch, before they are replaced."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.ends: list[dict[str, Tensor]] = []
        self.accuracies: list[float] = []

    @staticmethod
    def state(pl_module: pl.LightningModule) -> dict[str, Tensor]:
        return copy.deepcopy(pl_module.net.state_dict())  # type: ignore[union-attr]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.first = self.state(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(self.state(pl_module))
        if trainer.is_last_batch:
            self.ends.append(self.steps[-1])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.accuracies.append(float(trainer.callback_metrics["val/clean"]))


def accuracy(net: nn.Module, trainer: pl.Trainer) -> float:
    x, y = trainer.datamodule.split("val")  # type: ignore[attr-defined]
    with torch.no_grad():
        return float((net.eval()(x).argmax(1) == y).float().mean())


def test_ema_matches_a_reference_average(tmp_path: Path) -> None:
    watch = Watch()
    _, trainer = fit(tmp_path, "penalty=[ema]", "penalty.ema.decay=0.7", epochs=2, more=(watch,))
    assert len(watch.steps) == 8
    # As in torch, the first update copies the weights.
    average = watch.steps[0]
    for state in watch.steps[1:]:
        average = {name: 0.7 * average[name] + 0.3 * value for name, value in state.items()}
    saved = load(tmp_path / "last.ckpt")[0].net
    for name, value in saved.state_dict().items():
        torch.testing.assert_close(value, average[name], atol=1e-6, rtol=1e-5)
    trained = checkpoint(tmp_path)["trained_net"]
    assert all(torch.equal(value, watch.steps[-1][name]) for name, value in trained.items())
    # The saved weights are the validated ones.
    assert watch.accuracies[-1] == pytest.approx(accuracy(saved, trainer))


def test_nothing_is_averaged_before_the_start(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, "penalty=[ema]", "penalty.ema.decay=0.5", "penalty.ema.start=0.7", epochs=2, more=(watch,))
    # Only steps 6, 7 and 8 of 8 are after 0.7.
    average = watch.steps[5]
    for state in watch.steps[6:]:
        average = {name: 0.5 * average[name] + 0.5 * value for name, value in state.items()}
    for name, value in load(tmp_path / "last.ckpt")[0].net.state_dict().items():
        torch.testing.assert_close(value, average[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("option", ["ema", "swa"])
def test_training_continues_from_the_trained_weights(option: str, tmp_path: Path) -> None:
    plain, averaged = Watch(), Watch()
    fit(tmp_path / "plain", epochs=2, more=(plain,))
    module, _ = fit(
        tmp_path / option,
        f"penalty=[{option}]",
        "penalty.swa.start=0" if option == "swa" else "seed=0",
        epochs=2,
        more=(averaged,),
    )
    for one, other in zip(plain.steps, averaged.steps, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert all(torch.equal(value, averaged.steps[-1][name]) for name, value in module.net.state_dict().items())


def test_swa_is_the_mean_of_the_ends_of_epochs(tmp_path: Path) -> None:
    watch = Watch()
    _, trainer = fit(tmp_path, "penalty=[swa]", "penalty.swa.start=0.5", epochs=4, more=(watch,))
    saved = load(tmp_path / "last.ckpt")[0].net
    for name, value in saved.state_dict().items():
        expected = (watch.ends[2][name] + watch.ends[3][name]) / 2
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    assert watch.accuracies[-1] == pytest.approx(accuracy(saved, trainer))


@pytest.mark.parametrize("statistics", ["copied", "averaged", "recomputed"])
def test_batch_norm_statistics_of_swa(statistics: str, tmp_path: Path) -> None:
    watch = Watch()
    _, trainer = fit(
        tmp_path,
        "penalty=[swa,batch_norm]",
        "penalty.swa.start=0",
        f"penalty.swa.statistics={statistics}",
        epochs=3,
        more=(watch,),
    )
    module, _ = load(tmp_path / "last.ckpt")
    saved = module.net.state_dict()
    running = [name for name in saved if name.endswith(("running_mean", "running_var"))]
    assert len(running) == 6
    average = {name: torch.stack([end[name] for end in watch.ends]).float().mean(0) for name in saved}
    for name, parameter in module.net.named_parameters():
        torch.testing.assert_close(parameter.detach(), average[name], atol=1e-6, rtol=1e-5)
    if statistics == "recomputed":
        with torch.no_grad():
            update_bn([batch.x for batch in itertools.islice(trainer.train_dataloader, 20)], module.net)  # type: ignore[arg-type]
        expected = module.net.state_dict()
    else:
        expected = average if statistics == "averaged" else watch.ends[-1]
    for name in running:
        torch.testing.assert_close(saved[name], expected[name], atol=1e-5, rtol=1e-4)


def test_early_stopping_uses_the_best_epoch(tmp_path: Path) -> None:
    watch = Watch()
    _, trainer = fit(
        tmp_path, "penalty=[early_stopping]", "penalty.early_stopping.patience=null", "optimizer.lr=2", epochs=5, more=(watch,)
    )
    assert len(watch.accuracies) == 5, "trained to the end"
    best = max(range(5), key=lambda epoch: (watch.accuracies[epoch], -epoch))
    module, epoch = load(tmp_path / "last.ckpt")
    assert epoch == best
    assert len(set(watch.accuracies)) > 1 and best < 4, "accuracy falls again after the best epoch"
    for name, value in module.net.state_dict().items():
        assert torch.equal(value, watch.ends[best][name])
    assert checkpoint(tmp_path)["epoch"] == 4
    assert accuracy(module.net, trainer) == pytest.approx(watch.accuracies[best])


@pytest.mark.parametrize("patience", [1, 2])
def test_training_stops_after_patience_epochs(patience: int, tmp_path: Path) -> None:
    watch = Watch()
    settings = [f"penalty.early_stopping.patience={patience}", "optimizer.lr=1"]
    fit(tmp_path, "penalty=[early_stopping]", *settings, epochs=8, more=(watch,))
    best, waited, epochs = -1.0, 0, 0
    while waited < patience:
        value = watch.accuracies[epochs]
        best, waited, epochs = (value, 0, epochs + 1) if value > best else (best, waited + 1, epochs + 1)
    assert len(watch.accuracies) == epochs < 8


def test_an_increase_below_min_delta_is_no_improvement(tmp_path: Path) -> None:
    watch = Watch()
    fit(tmp_path, "penalty=[early_stopping]", "penalty.early_stopping.min_delta=1", epochs=3, more=(watch,))
    assert load(tmp_path / "last.ckpt")[1] == 0


@pytest.mark.parametrize("pair", [("ema", "swa"), ("early_stopping", "ema"), ("early_stopping", "swa")])
def test_only_one_penalty_can_replace_the_weights(pair: tuple[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=rf"penalty\.{pair[0]} and penalty\.{pair[1]} both replace the trained weights\. Use only one"
    ):
        build_penalties(composed(f"penalty=[{','.join(pair)}]"))


def test_ema_with_decay_1_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"penalty\.ema\.decay: with 1 the average never leaves the initial weights"):
        build_penalties(composed("penalty=[ema]", "penalty.ema.decay=1"))


@pytest.mark.parametrize("penalty", [EMA(decay=0.9), SWA(), EarlyStopping(patience=1)])
def test_trajectory_penalties_have_no_state(penalty: EMA | SWA | EarlyStopping) -> None:
    assert not list(penalty.parameters()) and not penalty.state_dict()


def test_without_an_average_a_checkpoint_contains_the_trained_weights(tmp_path: Path) -> None:
    module, _ = fit(tmp_path, "penalty=[swa]", "penalty.swa.start=1", epochs=1)
    saved = checkpoint(tmp_path)
    assert "trained_net" not in saved
    torch.testing.assert_close(flat(load(tmp_path / "last.ckpt")[0].net), flat(module.net), atol=0, rtol=0)
