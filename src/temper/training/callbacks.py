"""Callbacks that record learning curves and training cost; their state is checkpointed."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from temper.attacks import Attack
from temper.models import Network
from temper.training.wandb_logger import WandbLogger

log = logging.getLogger("temper")


class Curves(Callback):
    """Record every logged metric once per epoch, and write the values to the log.

    Attributes:
        values: by metric, one value per epoch.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self._trained = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log_past_epochs(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._trained:  # interrupted after the last epoch: no training step is left
            self._log_past_epochs(trainer)

    def _log_past_epochs(self, trainer: pl.Trainer) -> None:
        """Log the epochs before an interruption again, since Lightning's CSV logger starts a new file."""
        self._trained = True
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                for epoch in range(trainer.current_epoch):
                    metrics = {name: values[epoch] for name, values in self.values.items()}
                    logger.log_metrics({**metrics, "epoch": epoch}, step=(epoch + 1) * int(trainer.num_training_batches) - 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, value in trainer.callback_metrics.items():
            self.values.setdefault(name, []).append(float(value))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_curves(self.values)
        metrics = "  ".join(f"{name} {values[-1]:.4g}" for name, values in sorted(self.values.items()))
        log.info("epoch %d of %s:  %s", trainer.current_epoch + 1, trainer.max_epochs, metrics)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values = state_dict["values"]


class Cost(Callback):
    """Measure the cost of training, without validation and evaluation.

    Attributes:
        seconds: duration of the training batches alone.
        gradient_evaluations: backward passes through the network per example, the mean over the first epoch. They are counted
            rather than declared, so they are correct for any attack and penalty.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.gradient_evaluations = 0.0
        self._started = 0.0
        self._rows = self._examples = 0
        self._counting = False
        self._handle: RemovableHandle | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == 0:

            def count(gradient: Tensor) -> None:
                if not pl_module.measuring:
                    self._rows += len(gradient)

            def hook(module: nn.Module, x: object, out: Tensor) -> None:
                # Compiled steps are counted in `compiled_rows` of the module.
                if not torch.compiler.is_compiling() and self._counting and out.requires_grad:
                    out.register_hook(count)

            # A gradient that reaches the first layer has passed through the whole network, from the logits or a hidden layer.
            net = cast(Network, pl_module.net)
            first = next(module for module in net.modules() if _has_weights(module))
            if pl_module.compiler is not None:  # compiled code takes no hooks inside; its passes all start at the logits
                first = net
            self._handle = first.register_forward_hook(hook)
            self._counting = True
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._counting:
            self._examples += len(batch)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module)

    def _stop(self, module: pl.LightningModule) -> None:
        if self._counting:
            self._counting = False
            rows = self._rows + cast(int, module.compiled_rows)
            # An attack that replays its batches needs that many times fewer epochs.
            self.gradient_evaluations = rows / self._examples * cast(Attack, module.attack).replays
            if module.compiler is None:  # removing the hook of a compiled network would trigger a recompilation
                cast(RemovableHandle, self._handle).remove()
        if self._started:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - self._started
            self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "gradient_evaluations": self.gradient_evaluations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.gradient_evaluations = state_dict["seconds"], state_dict["gradient_evaluations"]


def _has_weights(module: nn.Module) -> bool:
    """Return True if a layer has weights, directly or by parametrization."""
    direct = next(module.parameters(recurse=False), None) is not None
    return parametrize.is_parametrized(module) or (direct and not isinstance(module, parametrize.ParametrizationList))


class PeakMemory:
    """Peak memory from construction on: of the GPU if `device` is one, else of this process (Linux only).

    Sweep workers are reused, so the process's peak is reset first.

    Args:
        device: device of the work.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def mebibytes(self) -> float | None:
        """Return the peak memory so far in MiB, or None if the system does not report it."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:")), None)
