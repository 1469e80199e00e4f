"""Networks from inputs in their own range to logits; normalization is their first layer."""

from temper.models.cnn import CNN
from temper.models.compiled import Compile, Compiler, lay_out
from temper.models.external import External
from temper.models.hf_transformer import HFTransformer
from temper.models.mlp import MLP
from temper.models.network import (
    BranchSlot,
    DropoutSlot,
    Network,
    Normalize,
    NormSlot,
    effective_weights,
    last_linear,
    named_weights,
)
from temper.models.preact_resnet import PreActResNet18
from temper.models.step import StepNetwork, still_statistics
from temper.models.tabular_resnet import ResNetTabular
from temper.models.text import TextNetwork
from temper.models.text_cnn import TextCNN
from temper.models.text_transformer import TextTransformer
from temper.models.timm import Timm
from temper.models.wide_resnet import WideResNet

__all__ = [
    "CNN",
    "MLP",
    "BranchSlot",
    "Compile",
    "Compiler",
    "DropoutSlot",
    "External",
    "HFTransformer",
    "Network",
    "NormSlot",
    "Normalize",
    "PreActResNet18",
    "ResNetTabular",
    "StepNetwork",
    "TextCNN",
    "TextNetwork",
    "TextTransformer",
    "Timm",
    "WideResNet",
    "effective_weights",
    "last_linear",
    "lay_out",
    "named_weights",
    "still_statistics",
]
