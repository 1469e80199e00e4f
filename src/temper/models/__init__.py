"""Networks from inputs in their own range to logits; normalization is their first layer."""

from temper.models.cnn import CNN
from temper.models.external import External
from temper.models.mlp import MLP
from temper.models.network import DropoutSlot, Network, Normalize, NormSlot, named_weights
from temper.models.preact_resnet import PreActResNet18

__all__ = ["CNN", "MLP", "DropoutSlot", "External", "Network", "NormSlot", "Normalize", "PreActResNet18", "named_weights"]
