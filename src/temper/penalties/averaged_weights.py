"""Callbacks that replace the trained weights by other ones in validation, checkpoints and tests.

Lightning's own weight averaging averages the whole module, including the buffers of metrics and penalties, and replaces the
trained weights by the initial ones before the first update. These callbacks therefore use torch's averaging and swap only the
weights of the network.
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

TRAINED_KEY = "trained_net"  # entry of a checkpoint with the trained weights, from which training continues
STATE_KEY = "stand_in"  # entry of a checkpoint with the state of the callback


class WeightReplacement(Callback, ABC):
    """Base of the callbacks that replace the trained weights by those of another network wherever they are used.

    The state dict of a checkpoint contains the replacement; the trained weights and the state of this callback are separate
    entries.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    @property
    @abstractmethod
    def net(self) -> Network | None:
        """Network that replaces the trained one; None while there is none yet."""

    @abstractmethod
    def begin(self, net: Network, loaded: dict[str, Any] | None) -> None:
        """Set up the replacement before the first training step.

        Args:
            net: trained network.
            loaded: state from a checkpoint, with the state dict of the replacement as "net" if it has one; None for a new run.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the state to save, without the state dict of the replacement."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(_net(pl_module), self._loaded)
        self._loaded = None

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE_KEY] = self.state() | {"kind": type(self).__name__}
        if self.net is not None:
            checkpoint[TRAINED_KEY] = {name: value.clone() for name, value in _net(pl_module).state_dict().items()}
            replacement = {f"net.{name}": value for name, value in self.net.state_dict().items()}
            checkpoint["state_dict"] = checkpoint["state_dict"] | replacement

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get(STATE_KEY, {}).get("kind") != type(self).__name__:
            return  # `ckpt_path` names a run of another kind: this one starts from the weights that were evaluated there
        self._loaded = dict(checkpoint[STATE_KEY])
        if TRAINED_KEY in checkpoint:
            names = (name for name in checkpoint["state_dict"] if name.startswith("net."))
            self._loaded["net"] = {name.removeprefix("net."): checkpoint["state_dict"][name] for name in names}
            _net(pl_module).load_state_dict(checkpoint[TRAINED_KEY])


class Averaging(WeightReplacement):
    """Replacement by an average of the trained weights.

    Args:
        decay: decay of an exponential moving average over steps; None for the plain mean over the ends of epochs.
        start: fraction of the training after which averaging starts.
        statistics: running statistics of batch norm: "copied", "averaged" or "recomputed".
    """

    BATCHES = 20  # training batches on which batch norm statistics are recomputed

    def __init__(self, *, decay: float | None, start: float, statistics: str) -> None:
        super().__init__()
        self.decay, self.start, self.statistics = decay, start, statistics
        self._average: AveragedModel | None = None
        self._last_step = 0

    @property
    def net(self) -> Network | None:
        return None if self._average is None or not int(self._average.n_averaged) else cast(Network, self._average.module)

    def begin(self, net: Network, loaded: dict[str, Any] | None) -> None:
        average = None if self.decay is None else get_ema_multi_avg_fn(self.decay)
        self._average = AveragedModel(net, multi_avg_fn=average, use_buffers=self.statistics == "averaged")
        if loaded is not None:
            self._last_step = loaded["updated"]
            self._average.n_averaged.fill_(loaded["averaged"])
            if "net" in loaded:
                self._average.module.load_state_dict(loaded["net"])

    def state(self) -> dict[str, Any]:
        averaged = 0 if self._average is None else int(self._average.n_averaged)
        return {"updated": self._last_step, "averaged": averaged}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        progress = trainer.global_step / cast(int, pl_module.total_steps)
        due = self.decay is not None or trainer.is_last_batch
        # With gradient accumulation some batches end without an optimizer step.
        if due and progress > self.start and trainer.global_step > self._last_step:
            assert self._average is not None
            self._average.update_parameters(_net(pl_module))
            self._last_step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.net is None:
            return
        if self.statistics == "recomputed" and _has_batch_norm(self.net):
            # As a list, since `update_bn` resets the statistics first and attacks need them.
            update_bn(list(self._training_points(trainer, pl_module)), self.net)
        _swap(_net(pl_module), self.net)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.net is not None:
            _swap(_net(pl_module), self.net)

    def _training_points(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[Tensor]:
        """Yield batches of training points for the averaged network; adversarial points if training uses an attack."""
        attacked = not isinstance(pl_module.attack, NoAttack)
        assert self.net is not None
        replays = cast(Attack, pl_module.attack).replays
        batches = islice(trainer.train_dataloader, 0, self.BATCHES * replays, replays)  # type: ignore[arg-type]
        for number, batch in enumerate(batches):
            rekey(cast(int, pl_module.seed), "statistics", trainer.current_epoch, number)
            yield pl_module.validation.perturb(self.net, batch) if attacked else batch.x  # type: ignore[operator,union-attr]


class BestSoFar(WeightReplacement):
    """Replacement by the weights of the epoch with the best validation accuracy.

    Args:
        min_delta: smallest increase in accuracy that counts as an improvement.
    """

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
        """Epoch of the best accuracy, counted from 0."""
        # A resumed run without any epoch left never calls `begin`.
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
    """Lightning's early stopping on the metric that selects best.ckpt. A stopped run that is resumed does not train further.

    Args:
        patience: epochs without an improvement after which training stops.
        min_delta: smallest increase of the metric that counts as an improvement.
    """

    def __init__(self, patience: int, min_delta: float) -> None:
        super().__init__(monitor="", mode="max", patience=patience, min_delta=min_delta, check_on_train_epoch_end=False)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.monitor = cast(str, pl_module.monitor)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _has_batch_norm(net: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


def _net(pl_module: pl.LightningModule) -> Network:
    return cast(Network, pl_module.net)


@torch.no_grad()
def _swap(one: nn.Module, other: nn.Module) -> None:
    """Exchange the parameters and buffers of two networks in place."""
    for a, b in zip(chain(one.parameters(), one.buffers()), chain(other.parameters(), other.buffers()), strict=True):
        kept = a.data.clone()
        a.data.copy_(b.data)
        b.data.copy_(kept)
