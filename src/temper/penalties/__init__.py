"""The penalty axis: one file per place where a regularizer acts."""

from temper.penalties.architecture import BatchNorm, Dropout
from temper.penalties.composition import Penalties, Weighted
from temper.penalties.labels import LabelSmoothing
from temper.penalties.penalty import Penalty, Stage
from temper.penalties.weights import L1, L2, WeightDecay

__all__ = [
    "L1",
    "L2",
    "BatchNorm",
    "Dropout",
    "LabelSmoothing",
    "Penalties",
    "Penalty",
    "Stage",
    "WeightDecay",
    "Weighted",
]
