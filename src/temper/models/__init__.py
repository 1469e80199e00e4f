"""Networks that map inputs in their valid range to logits; normalization is their first layer."""

from temper.models.architectures.cnn import CNN
from temper.models.architectures.mlp import MLP
from temper.models.architectures.preact_resnet import PreActResNet18
from temper.models.architectures.tabular_resnet import ResNetTabular
from temper.models.architectures.text_cnn import TextCNN
from temper.models.architectures.text_network import TextNetwork
from temper.models.architectures.text_transformer import TextTransformer
from temper.models.architectures.wide_resnet import WideResNet
from temper.models.compile import Compile, Compiler, lay_out
from temper.models.external import External
from temper.models.hf_transformer import HFTransformer
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
from temper.models.step_network import StepNetwork, still_statistics
from temper.models.timm import Timm

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
