"""Penalties on the trajectory: other weights than the last ones stand for the run."""

import math
from typing import Literal

from pytorch_lightning import Callback

from temper.config.types import Count, Probability, checked
from temper.penalties.averaged_weights import Averaging, BestSoFar, Stop
from temper.penalties.penalty import Penalty, PenaltyGroup, Place, Stage

Statistics = Literal["recomputed", "copied", "averaged"]


class EMA(Penalty):
    """Exponential moving average of the weights, mean <- decay * mean + (1 - decay) * w after each step (Polyak & Juditsky
    1992; Tarvainen & Valpola 2017, https://arxiv.org/abs/1703.01780); against robust overfitting Rebuffi et al. 2021,
    https://arxiv.org/abs/2103.01946.

    The average is what is validated, saved and tested, from its first update on; training goes on from the trained weights,
    which are in the checkpoint too.

    Args:
        decay: 0.999 to 0.9995 in the literature, whose runs take tens of thousands of steps; half of it is forgotten after 0.69
            / (1 - decay) of them.
        start: share of training before which nothing is averaged.
        statistics: of batch norm: "copied" from the trained network, "averaged" like the weights, or "recomputed" before each
            validation on 20 training batches, attacked as in validation if the run is trained against an attack.
    """

    stage = Stage.TRAJECTORY
    place = Place.STANDS_IN
    neutral = ("decay=0",)

    @checked
    def __init__(self, *, decay: Probability, start: Probability = 0.0, statistics: Statistics = "copied") -> None:
        super().__init__()
        if decay == 1:
            raise ValueError("decay: at 1 the average never leaves the initial weights")
        self.decay, self.start, self.statistics = decay, start, statistics

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [Averaging(decay=self.decay, start=self.start, statistics=self.statistics)]


class SWA(Penalty):
    """Stochastic weight averaging: the plain mean of the weights at the end of each epoch from `start` on (Izmailov et al.
    2018, https://arxiv.org/abs/1803.05407; against robust overfitting Chen et al. 2021, https://openreview.net/forum?id=qZzy5urZw9).

    The learning rate stays that of the schedule: the paper's constant or cyclic one is `schedule=constant`.

    Args:
        start: share of training at which averaging starts (0.75 in the paper).
        statistics: of batch norm, as for `EMA`; the paper recomputes them, on the whole training set.
    """

    stage = Stage.TRAJECTORY
    place = Place.STANDS_IN
    neutral = ("start=1",)

    @checked
    def __init__(self, *, start: Probability = 0.75, statistics: Statistics = "recomputed") -> None:
        super().__init__()
        self.start, self.statistics = start, statistics

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [Averaging(decay=None, start=self.start, statistics=self.statistics)]


class EarlyStopping(Penalty):
    """The epoch of the best validation accuracy stands for the run, robust accuracy where an attack is trained against (Rice et
    al. 2020, https://arxiv.org/abs/2002.11569), and training ends when it has not risen for `patience` epochs.

    So that last.ckpt of this run can be compared with last.ckpt of others.

    Args:
        patience: epochs without a new best before training ends; null: train to the end.
        min_delta: what counts as a rise, a share of examples.
    """

    stage = Stage.TRAJECTORY
    place = Place.STANDS_IN

    @checked
    def __init__(self, *, patience: Count | None, min_delta: Probability = 0.0) -> None:
        super().__init__()
        self.patience, self.min_delta = patience, min_delta

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        patience = math.inf if self.patience is None else self.patience
        return [BestSoFar(min_delta=self.min_delta), *([Stop(int(patience), self.min_delta)] if self.patience else [])]
