"""Penalties on the training trajectory: other weights than the last ones are evaluated (EMA, SWA, early stopping)."""

from typing import Literal

from pytorch_lightning import Callback

from temper.config.types import Count, Probability, checked
from temper.penalties.averaged_weights import Averaging, BestSoFar, Stop
from temper.penalties.penalty import Exclusive, Penalty, PenaltyGroup, Stage

Statistics = Literal["recomputed", "copied", "averaged"]


class _OnTrajectory(Penalty):
    """Base of the penalties whose weights replace the trained ones in validation, checkpoints and tests."""

    stage = Stage.TRAJECTORY
    exclusive = Exclusive.REPLACES_WEIGHTS


class EMA(_OnTrajectory):
    """Exponential moving average of the weights.

    mean <- decay * mean + (1 - decay) * w after each step (Polyak & Juditsky 1992; Tarvainen & Valpola 2017,
    https://arxiv.org/abs/1703.01780; against robust overfitting Rebuffi et al. 2021, https://arxiv.org/abs/2103.01946).

    From its first update on, the average is validated, saved and tested. Training continues from the trained weights, which
    the checkpoint contains too.

    Args:
        decay: decay per step. The literature uses 0.999 to 0.9995 for runs of tens of thousands of steps; the half-life is 0.69
            / (1 - decay) steps.
        start: fraction of the training after which averaging starts.
        statistics: running statistics of batch norm: "copied" from the trained network, "averaged" like the weights, or
            "recomputed" before each validation on 20 training batches, which are attacked with the validation attack if the run
            trains with an attack.
    """

    neutral = ("decay=0",)

    @checked
    def __init__(self, *, decay: Probability, start: Probability = 0.0, statistics: Statistics = "copied") -> None:
        super().__init__()
        if decay == 1:
            raise ValueError("decay: with 1 the average never leaves the initial weights. Choose a value below 1.")
        self.decay, self.start, self.statistics = decay, start, statistics

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [Averaging(decay=self.decay, start=self.start, statistics=self.statistics)]


class SWA(_OnTrajectory):
    """Stochastic weight averaging: plain mean of the weights at the ends of epochs.

    Averages after `start` (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407; against robust overfitting Chen et al.
    2021, https://openreview.net/forum?id=qZzy5urZw9). The learning rate follows the schedule of the run. The paper uses a
    constant or cyclic one; `schedule=constant` gives the former.

    Args:
        start: fraction of the training after which averaging starts (0.75 in the paper).
        statistics: running statistics of batch norm, as for `EMA`; the paper recomputes them on the whole training set.
    """

    neutral = ("start=1",)

    @checked
    def __init__(self, *, start: Probability = 0.75, statistics: Statistics = "recomputed") -> None:
        super().__init__()
        self.start, self.statistics = start, statistics

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        return [Averaging(decay=None, start=self.start, statistics=self.statistics)]


class EarlyStopping(_OnTrajectory):
    """Early stopping: the weights of the epoch with the best validation accuracy are evaluated.

    This is the robust accuracy if the run trains with an attack (Rice et al. 2020, https://arxiv.org/abs/2002.11569).
    Training stops after `patience` epochs without an improvement. The last.ckpt of such a run contains the best weights, so
    it can be compared with the last.ckpt of other runs.

    Args:
        patience: epochs without an improvement after which training stops; None trains to the end.
        min_delta: smallest increase in accuracy that counts as an improvement, as a fraction.
    """

    @checked
    def __init__(self, *, patience: Count | None, min_delta: Probability = 0.0) -> None:
        super().__init__()
        self.patience, self.min_delta = patience, min_delta

    def callbacks(self, penalties: PenaltyGroup) -> list[Callback]:
        best = BestSoFar(min_delta=self.min_delta)
        return [best] if self.patience is None else [best, Stop(self.patience, self.min_delta)]
