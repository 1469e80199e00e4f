"""Weights that stand in for the trained ones: they are validated, saved and tested in their place.

Lightning's own weight averaging averages the whole module, metrics' and penalties' buffers with it, and puts the initial
weights in the place of the trained ones before the first update. So the averaging itself is torch's, and what takes whose place
when is told here.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from temper.attacks import Attack, NoAttack
from temper.models import Network
from temper.runs.seeding import rekey

TRAINED = "trained_net"  # where a checkpoint keeps the trained weights, from which training goes on
STATE = "stand_in"


class StandIn(Callback, ABC):
    """Another state of the network takes its place whenever it is looked at.

    A checkpoint's state dict holds the stand-in, with the epoch of its weights beside it, and the trained network apart.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    @property
    @abstractmethod
    def net(self) -> Network | None:
        """What stands in; None: the trained network itself, as yet."""

    @abstractmethod
    def begin(self, net: Network, loaded: dict[str, Any] | None) -> None:
        """Before the first step, with what a checkpoint held."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What it must know to go on, beside the stand-in's own state dict."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(_net(pl_module), self._loaded)
        self._loaded = None

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE] = self.state() | {"kind": type(self).__name__}
        if self.net is not None:
            checkpoint[TRAINED] = {name: value.clone() for name, value in _net(pl_module).state_dict().items()}
            stood = {f"net.{name}": value for name, value in self.net.state_dict().items()}
            checkpoint["state_dict"] = checkpoint["state_dict"] | stood

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get(STATE, {}).get("kind") != type(self).__name__:
            return  # `ckpt_path` names a run of another kind: this one begins with the weights that stood for that
        self._loaded = dict(checkpoint[STATE])
        if TRAINED in checkpoint:
            names = (name for name in checkpoint["state_dict"] if name.startswith("net."))
            self._loaded["net"] = {name.removeprefix("net."): checkpoint["state_dict"][name] for name in names}
            _net(pl_module).load_state_dict(checkpoint[TRAINED])


class Averaging(StandIn):
    """A mean of the weights, exponential (`decay`) or plain over the ends of epochs (None), from a share of training on."""

    BATCHES = 20  # on which the statistics of batch norm are recomputed

    def __init__(self, *, decay: float | None, start: float, statistics: str) -> None:
        super().__init__()
        self.decay, self.start, self.statistics = decay, start, statistics
        self._mean: AveragedModel | None = None
        self._updated = 0

    @property
    def net(self) -> Network | None:
        return None if self._mean is None or not int(self._mean.n_averaged) else cast(Network, self._mean.module)

    def begin(self, net: Network, loaded: dict[str, Any] | None) -> None:
        mean = None if self.decay is None else get_ema_multi_avg_fn(self.decay)
        self._mean = AveragedModel(net, multi_avg_fn=mean, use_buffers=self.statistics == "averaged")
        if loaded is not None:
            self._updated = loaded["updated"]
            self._mean.n_averaged.fill_(loaded["averaged"])
            if "net" in loaded:
                self._mean.module.load_state_dict(loaded["net"])

    def state(self) -> dict[str, Any]:
        averaged = 0 if self._mean is None else int(self._mean.n_averaged)
        return {"updated": self._updated, "averaged": averaged}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.global_step / cast(int, pl_module.total_steps)
        due = self.decay is not None or trainer.is_last_batch
        # With accumulated gradients some batches end without a step.
        if due and done > self.start and trainer.global_step > self._updated:
            assert self._mean is not None
            self._mean.update_parameters(_net(pl_module))
            self._updated = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.net is None:
            return
        if self.statistics == "recomputed" and has_running_statistics(self.net):
            # All points first: they are found with the statistics that there are.
            update_bn(list(self._points(trainer, pl_module)), self.net)
        _swap(_net(pl_module), self.net)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.net is not None:
            _swap(_net(pl_module), self.net)

    def _points(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[Tensor]:
        """Training points as the averaged network meets them: attacked where training is."""
        attacked = not isinstance(pl_module.attack, NoAttack)
        assert self.net is not None
        replays = cast(Attack, pl_module.attack).replays
        batches = islice(trainer.train_dataloader, 0, self.BATCHES * replays, replays)  # type: ignore[arg-type]
        for number, batch in enumerate(batches):
            rekey(cast(int, pl_module.seed), "statistics", trainer.current_epoch, number)
            yield pl_module.validation.perturb(self.net, batch) if attacked else batch.x  # type: ignore[operator,union-attr]


class BestSoFar(StandIn):
    """The network at the epoch of the best validation accuracy."""

    def __init__(self, *, min_delta: float) -> None:
        super().__init__()
        self.min_delta = min_delta
        self._best: Network | None = None
        self._accuracy, self._epoch = -torch.inf, 0

    @property
    def net(self) -> Network | None:
        return self._best

    @property
    def epoch(self) -> int:
        """Of the best accuracy, from 0; a run that had nothing left to train knows it from its checkpoint."""
        return self._epoch if self._loaded is None else int(self._loaded["epoch"])

    def begin(self, net: Network, loaded: dict[str, Any] | None) -> None:
        if loaded is not None and "net" in loaded:
            self._accuracy, self._epoch = loaded["accuracy"], loaded["epoch"]
            self._best = copy.deepcopy(net)
            self._best.load_state_dict(loaded["net"])

    def state(self) -> dict[str, Any]:
        return {"accuracy": self._accuracy, "epoch": self._epoch}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        accuracy = float(trainer.callback_metrics[cast(str, pl_module.monitor)])
        if accuracy > self._accuracy + self.min_delta:
            self._accuracy, self._epoch = accuracy, trainer.current_epoch
            if self._best is None:
                self._best = copy.deepcopy(_net(pl_module))
            self._best.load_state_dict(_net(pl_module).state_dict())


class Stop(LightningEarlyStopping):
    """Lightning's, by what best.ckpt is chosen by; a run that was interrupted after it stopped does not train again."""

    def __init__(self, patience: int, min_delta: float) -> None:
        super().__init__(monitor="", mode="max", patience=patience, min_delta=min_delta, check_on_train_epoch_end=False)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.monitor = cast(str, pl_module.monitor)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def has_running_statistics(net: nn.Module) -> bool:
    """Whether a network has batch norm."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


def _net(pl_module: pl.LightningModule) -> Network:
    return cast(Network, pl_module.net)


@torch.no_grad()
def _swap(one: nn.Module, other: nn.Module) -> None:
    """Exchange parameters and buffers in place."""
    for a, b in zip(chain(one.parameters(), one.buffers()), chain(other.parameters(), other.buffers()), strict=True):
        kept = a.data.clone()
        a.data.copy_(b.data)
        b.data.copy_(kept)
