"""Penalties on the size of the weights. Biases and norm layers are left out, told apart by type."""

import torch
from torch import Tensor

from temper.arguments import NonNegative, checked
from temper.data.batch import Batch
from temper.models.network import Network, named_weights
from temper.penalties.penalty import Penalty, Stage


class L1(Penalty):
    """sum |w|: drives weights to zero (Tibshirani 1996, https://doi.org/10.1111/j.2517-6161.1996.tb02080.x)."""

    stage = Stage.WEIGHTS

    def term(self, net: Network, batch: Batch) -> Tensor:
        return torch.stack([w.abs().sum() for _, w in named_weights(net)]).sum()


class L2(Penalty):
    """1/2 sum w^2, so that its weight equals the decay of SGD (Krogh & Hertz 1991)."""

    stage = Stage.WEIGHTS

    def term(self, net: Network, batch: Batch) -> Tensor:
        return torch.stack([w.square().sum() for _, w in named_weights(net)]).sum() / 2


class WeightDecay(Penalty):
    """Decoupled decay, w <- (1 - lr * decay) w before each step (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101).

    With Adam it is AdamW; unlike `l2` it never enters the gradient, and so neither momentum nor its normalization.

    Args:
        decay: per step and unit of learning rate.
    """

    stage = Stage.WEIGHTS
    magnitude = "decay"

    @checked
    def __init__(self, *, decay: NonNegative) -> None:
        super().__init__()
        self.decay = decay

    @torch.no_grad()
    def before_step(self, net: Network, lr: float) -> None:
        if self.decay:
            torch._foreach_mul_([w for _, w in named_weights(net)], 1 - lr * self.decay)
