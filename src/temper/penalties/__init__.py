"""Penalties: the regularizers of the comparison, one module per place where they act."""

from temper.penalties.architecture import BatchNorm, Dropout, GroupNorm, SpatialDropout, SpectralNorm, StochasticDepth
from temper.penalties.augmentation import CropFlip, Cutout, Noise
from temper.penalties.composition import Penalties, Weighted
from temper.penalties.dynamic import Controlled, Dynamic
from temper.penalties.gradient_ratios import Ratios
from temper.penalties.inputs import Curvature, InputGradient, Jacobian, LocalLinearity
from temper.penalties.meta import Meta
from temper.penalties.mixing import CutMix, Mixup
from temper.penalties.outputs import Confidence, LabelSmoothing, LogitSqueezing, SelfDistillation
from temper.penalties.penalty import Penalty, Stage
from temper.penalties.rotation import Rotation
from temper.penalties.sharpness import AWP, SAM
from temper.penalties.trajectory import EMA, SWA, EarlyStopping
from temper.penalties.weights import L1, L2, AdaptiveWeightDecay, MaxNorm, Orthogonal, Spectral, WeightDecay

__all__ = [
    "AWP",
    "EMA",
    "L1",
    "L2",
    "SAM",
    "SWA",
    "AdaptiveWeightDecay",
    "BatchNorm",
    "Confidence",
    "Controlled",
    "CropFlip",
    "Curvature",
    "CutMix",
    "Cutout",
    "Dropout",
    "Dynamic",
    "EarlyStopping",
    "GroupNorm",
    "InputGradient",
    "Jacobian",
    "LabelSmoothing",
    "LocalLinearity",
    "LogitSqueezing",
    "MaxNorm",
    "Meta",
    "Mixup",
    "Noise",
    "Orthogonal",
    "Penalties",
    "Penalty",
    "Ratios",
    "Rotation",
    "SelfDistillation",
    "SpatialDropout",
    "Spectral",
    "SpectralNorm",
    "Stage",
    "StochasticDepth",
    "WeightDecay",
    "Weighted",
]
