"""What one run shows in a terminal while it trains: a bar below the lines of its log."""

import logging
import sys
import time
from typing import Any, TextIO

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from temper.runs.terminal import duration


class TrainingBar(Callback):
    """The epoch, the batch in it, the time left, and accuracies of the last validation. Nothing on it waits for the device.

    The time left takes the rest to go as fast as this process has gone since it began, validation included.

    Args:
        console: where it is drawn; None: standard error, where the log goes.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[batch]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[last]}"),
            console=console or Console(stderr=True, highlight=False),
            transient=True,
        )
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        terminal = sys.stderr
        self.bar.start()
        # Lines of the log go through the bar, which moves below them; those for files stay as they are.
        for handler in logging.getLogger().handlers:
            if type(handler) is logging.StreamHandler and handler.stream is terminal:
                handler.setStream(sys.stderr)
                self._moved.append((handler, terminal))
        self._since, self._began = time.monotonic(), trainer.current_epoch * self._batches(trainer)
        total = (trainer.max_epochs or 1) * self._batches(trainer)
        self._task = self.bar.add_task("", total=total, completed=self._began, batch="", left="", last="")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.update(self._task, description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        batches, total = self._batches(trainer), self.bar.tasks[self._task].total or 0
        done = trainer.current_epoch * batches + batch_idx + 1
        left = (time.monotonic() - self._since) / (done - self._began) * (total - done)
        shown = f"batch {batch_idx + 1}/{batches}"
        self.bar.update(self._task, completed=done, batch=shown, left=f"about {duration(left)} left")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.update(self._task, batch="validation")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = dict.fromkeys(("val/clean", f"val/{pl_module.validation_name}"))
        found = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.bar.update(self._task, last="  ".join(f"{name} {100 * value:.1f} %" for name, value in found.items()))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        for handler, stream in self._moved:
            handler.setStream(stream)
        self._moved.clear()
        self.bar.stop()

    def _batches(self, trainer: pl.Trainer) -> int:
        return int(trainer.num_training_batches)
