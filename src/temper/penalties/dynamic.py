"""Penalties that steer others: their weights, or magnitudes, change as training goes on."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback

from temper.config.types import NonNegative, Positive, Probability, checked
from temper.data import DataModule
from temper.penalties.composition import is_or_is_part_of
from temper.penalties.penalty import Penalty, PenaltyGroup, Stage, adds_a_term, steerable
from temper.runs.seeding import rekey

Shape = Literal["constant", "linear", "cosine", "step"]


class Steering(Penalty):
    """What steers other penalties of its run.

    Args:
        of: their names; null: all that have a weight or a magnitude.
    """

    stage = Stage.STEERING
    terms_alone: ClassVar[bool] = False  # or magnitudes as well

    @checked
    def __init__(self, *, of: Sequence[str] | None = None) -> None:
        super().__init__()
        self.of = of

    def steers(self, name: str, other: Penalty) -> bool:
        possible = adds_a_term(other) if self.terms_alone else steerable(other)
        return possible and (self.of is None or any(is_or_is_part_of(name, of) for of in self.of))


class Dynamic(Steering):
    """A schedule: the factor goes from `first` to `last` between two moments of training, and stays at either beside them.

    "constant" is `last` throughout, "linear" and "cosine" go there on a line and on half a cosine, "step" jumps at `end`.

    Args:
        of: names of the penalties that it steers; null: all others that have a weight or a magnitude.
        shape: of the way.
        first, last: factors of the weight or magnitude.
        begin, end: shares of training.
    """

    neutral = ("first=1", "last=1")

    @checked
    def __init__(
        self,
        *,
        of: Sequence[str] | None = None,
        shape: Shape = "linear",
        first: NonNegative = 0.0,
        last: NonNegative = 1.0,
        begin: Probability = 0.0,
        end: Probability = 1.0,
    ) -> None:
        super().__init__(of=of)
        if end < begin:
            raise ValueError(f"end ({end:g}) should not be below begin ({begin:g})")
        self.shape, self.first, self.last = shape, first, last
        self.starts, self.ends = begin, end

    def course(self, done: float) -> float:
        if self.shape == "constant" or done >= self.ends:
            return self.last
        if self.shape == "step" or done <= self.starts:
            return self.first
        way = (done - self.starts) / (self.ends - self.starts)
        way = way if self.shape == "linear" else (1 - math.cos(math.pi * way)) / 2
        return self.first + (self.last - self.first) * way


class Controlled(Steering):
    """A controller: after each epoch the factor rises while the robust generalization gap exceeds a target, and falls below it.

        factor <- factor * exp(rate * (gap - target)), within [1 / most, most]

    The gap is the accuracy under the validation attack on training examples, as many as the validation split has, minus that on
    the validation split (Rice et al. 2020, https://arxiv.org/abs/2002.11569, watch the same gap open). It is logged each epoch
    as `val/gap`, and costs one more validation.

    Args:
        of: names of the penalties that it steers; null: all others that have a weight or a magnitude.
        target: gap that is aimed at, a share of examples.
        rate: how far a gap of 1 moves the logarithm of the factor; 0: nowhere.
        most: largest factor, and inverse of the smallest.
        clean: look at clean accuracies instead.
    """

    neutral = ("rate=0",)

    @checked
    def __init__(
        self,
        *,
        of: Sequence[str] | None = None,
        target: Probability,
        rate: NonNegative,
        most: Positive = 10.0,
        clean: bool = False,
    ) -> None:
        super().__init__(of=of)
        if most < 1:
            raise ValueError("most: should be 1 or greater")
        self.target, self.rate, self.most, self.clean = target, rate, most, clean

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [_Controller(self, penalties)]


class _Controller(Callback):
    """Measures the gap with every validation, and moves the factors; they are part of the penalties' state."""

    def __init__(self, controlled: Controlled, penalties: PenaltyGroup) -> None:
        self.controlled, self.penalties = controlled, penalties

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        name = "clean" if self.controlled.clean else cast(str, pl_module.validation_name)
        # Callbacks come before the module here, which resets its metrics once they are logged.
        val = float(cast(Any, pl_module.val_metrics)[name].compute())
        gap = self._train_accuracy(trainer, pl_module) - val
        pl_module.log("val/gap", gap)
        moved = math.exp(self.controlled.rate * (gap - self.controlled.target))
        for target in self.penalties.steered_by(self.controlled):
            factor = self.penalties.factors.get(target, 1.0) * moved
            self.penalties.steer(target, min(max(factor, 1 / self.controlled.most), self.controlled.most))

    def _train_accuracy(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
        data = cast(DataModule, trainer.datamodule)  # type: ignore[attr-defined]
        loader = data.loader("train", batch_size=1000, device=pl_module.device, size=len(data.split("val").y))
        right, count = torch.zeros((), device=pl_module.device), 0
        for number, batch in enumerate(loader):
            rekey(cast(int, pl_module.seed), "gap", number)
            x = batch.x if self.controlled.clean else cast(Any, pl_module.validation).perturb(pl_module.net, batch)
            with torch.no_grad():
                right += (cast(Any, pl_module.net)(x).argmax(1) == batch.y).sum()
            count += len(batch)
        return float(right) / count
