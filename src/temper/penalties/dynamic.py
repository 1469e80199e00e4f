"""Steering penalties: schedules and controllers that change the weights or magnitudes of other penalties during training."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import pytorch_lightning as pl
import torch
from pydantic import BeforeValidator, Field
from pytorch_lightning import Callback

from temper.config.types import NonNegative, Probability, checked, parse_number
from temper.data import DataModule
from temper.penalties.penalty import Penalty, PenaltyGroup, Stage, belongs_to, has_term
from temper.runs.seeding import rekey

Shape = Literal["constant", "linear", "cosine", "step"]
MaxFactor = Annotated[float, BeforeValidator(parse_number), Field(ge=1, allow_inf_nan=False)]


class Steering(Penalty):
    """Base of the penalties that steer others: they set the weight or the magnitude of other penalties of the run.

    Args:
        of: names of the penalties to steer; None for all that have a weight or a magnitude.

    Attributes:
        terms_only: steer only penalties with a term, not the magnitudes of others.
    """

    stage = Stage.STEERING
    terms_only: ClassVar[bool] = False

    @checked
    def __init__(self, *, of: Sequence[str] | None = None) -> None:
        super().__init__()
        self.of = of

    def steers(self, name: str, other: Penalty) -> bool:
        steerable = has_term(other) or (other.magnitude is not None and not self.terms_only)
        return steerable and (self.of is None or any(belongs_to(name, group) for group in self.of))


class Dynamic(Steering):
    """Schedule: the factor goes from `first` to `last` between two points of the training, and is constant before and after.

    The shape "constant" is `last` throughout, "linear" and "cosine" interpolate along a line and half a cosine, and "step"
    jumps at `end`.

    Args:
        of: names of the penalties to steer; None for all others that have a weight or a magnitude.
        shape: shape of the schedule.
        first: first factor of the weight or magnitude.
        last: last factor of the weight or magnitude.
        begin: fraction of the training at which the change begins.
        end: fraction of the training at which it ends.
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
            raise ValueError(f"end: {end:g} is below begin={begin:g}. Choose end >= begin.")
        self.shape, self.first, self.last = shape, first, last
        self.starts, self.ends = begin, end

    def factor_at(self, progress: float) -> float:
        if self.shape == "constant" or progress >= self.ends:
            return self.last
        if self.shape == "step" or progress <= self.starts:
            return self.first
        fraction = (progress - self.starts) / (self.ends - self.starts)
        fraction = fraction if self.shape == "linear" else (1 - math.cos(math.pi * fraction)) / 2
        return self.first + (self.last - self.first) * fraction


class Controlled(Steering):
    """Controller: after each epoch the factor rises if the robust generalization gap exceeds a target, and falls otherwise.

        factor <- factor * exp(rate * (gap - target)), within [1 / most, most]

    The gap is the accuracy under the validation attack on training examples, as many as the validation split has, minus that on
    the validation split (Rice et al. 2020, https://arxiv.org/abs/2002.11569, observe this gap). It is logged each epoch as
    `val/gap`, and costs one more validation.

    Args:
        of: names of the penalties to steer; None for all others that have a weight or a magnitude.
        target: gap to reach, as a fraction of examples.
        rate: change of the logarithm of the factor per unit of the gap; 0 leaves the factor at 1.
        most: largest factor, and inverse of the smallest.
        clean: use clean accuracies instead.
    """

    neutral = ("rate=0",)

    @checked
    def __init__(
        self,
        *,
        of: Sequence[str] | None = None,
        target: Probability,
        rate: NonNegative,
        most: MaxFactor = 10.0,
        clean: bool = False,
    ) -> None:
        super().__init__(of=of)
        self.target, self.rate, self.most, self.clean = target, rate, most, clean

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [_Controller(self, penalties)]


class _Controller(Callback):
    """Callback that measures the gap in each validation and updates the factors, which are part of the penalties' state."""

    def __init__(self, controlled: Controlled, penalties: PenaltyGroup) -> None:
        self.controlled, self.penalties = controlled, penalties

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        name = "clean" if self.controlled.clean else cast(str, pl_module.validation_name)
        # Callbacks run before the module's own hook, which resets its metrics after logging them.
        val = float(cast(Any, pl_module.val_metrics)[name].compute())
        gap = self._train_accuracy(trainer, pl_module) - val
        pl_module.log("val/gap", gap)
        for target in self.penalties.steered_by(self.controlled):
            change_factor(
                self.penalties, target, self.controlled.rate * (gap - self.controlled.target), most=self.controlled.most
            )

    def _train_accuracy(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
        data = cast(DataModule, trainer.datamodule)  # type: ignore[attr-defined]
        loader = data.loader("train", batch_size=1000, device=pl_module.device, size=len(data.split("val").y))
        correct, count = torch.zeros((), device=pl_module.device), 0
        for number, batch in enumerate(loader):
            rekey(cast(int, pl_module.seed), "gap", number)
            x = batch.x if self.controlled.clean else cast(Any, pl_module.validation).perturb(pl_module.net, batch)
            with torch.no_grad():
                correct += (cast(Any, pl_module.net)(x).argmax(1) == batch.y).sum()
            count += len(batch)
        return float(correct) / count


def change_factor(penalties: PenaltyGroup, name: str, change: float, *, most: float) -> None:
    """Change the factor of a penalty.

    Args:
        penalties: penalties of the run.
        name: name of the steered penalty.
        change: change of the logarithm of the factor.
        most: largest factor, and inverse of the smallest.
    """
    factor = penalties.factors.get(name, 1.0) * math.exp(change)
    penalties.steer(name, min(max(factor, 1 / most), most))
