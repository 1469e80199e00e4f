"""Progress bar of a single run in a terminal."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from temper.runs.terminal import duration


class TrainingBar(Callback):
    """Show epoch, batch, remaining time and the last validation accuracies below the log lines.

    It never waits for the device. The remaining time extrapolates the speed of this process so far, validation included.

    Args:
        console: the console to draw on; None: standard error, like the log.
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
        self._replaced: list[tuple[logging.Handler, logging.Handler]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Log lines for the terminal go through the console of the bar, which moves below them. Log files are not affected.
        root = logging.getLogger()
        for handler in [*root.handlers]:
            if type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
                above_bar = RichHandler(
                    handler.level,
                    self.bar.console,
                    show_time=False,
                    show_level=False,
                    show_path=False,
                    highlighter=NullHighlighter(),
                    keywords=[],
                )
                above_bar.setFormatter(handler.formatter)
                root.removeHandler(handler)
                root.addHandler(above_bar)
                self._replaced.append((handler, above_bar))
        self.bar.start()
        self._started, self._first_batch = time.monotonic(), trainer.current_epoch * self._batches(trainer)
        total = (trainer.max_epochs or 1) * self._batches(trainer)
        self._task = self.bar.add_task("", total=total, completed=self._first_batch, batch="", left="", last="")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.update(self._task, description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        batches, total = self._batches(trainer), self.bar.tasks[self._task].total or 0
        done = trainer.current_epoch * batches + batch_idx + 1
        left = (time.monotonic() - self._started) / (done - self._first_batch) * (total - done)
        self.bar.update(
            self._task, completed=done, batch=f"batch {batch_idx + 1}/{batches}", left=f"about {duration(left)} left"
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.update(self._task, batch="validation")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = dict.fromkeys(("val/clean", f"val/{pl_module.validation_name}"))
        metrics = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.bar.update(self._task, last="  ".join(f"{name} {100 * value:.1f} %" for name, value in metrics.items()))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        self.bar.stop()
        root = logging.getLogger()
        for handler, above_bar in self._replaced:
            root.removeHandler(above_bar)
            root.addHandler(handler)
        self._replaced.clear()

    def _batches(self, trainer: pl.Trainer) -> int:
        return int(trainer.num_training_batches)
