"""The network as the adversary sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from temper.models.step_network import still_statistics

Mode = Literal["eval", "train"]


@contextmanager
def probing(net: nn.Module, mode: Mode) -> Iterator[None]:
    """Within it gradients are on, they reach the input alone, and the network is in `mode`.

    On the way out, after an exception too, every submodule's `training` flag, every `requires_grad` and every buffer is as it
    was. (`.grad` is never touched, since attacks call `torch.autograd.grad`.) Mode "train" leaves frozen submodules frozen; its
    forward passes move no running statistics, and whatever else they move is put back. The field uses both modes, with
    different results (Pang et al. 2021, https://arxiv.org/abs/2010.00467).
    """
    training = [(module, module.training) for module in net.modules()]
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad and parameter.is_leaf]
    buffers = [(buffer, buffer.clone()) for buffer in _moved(net)] if mode == "train" else []
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        # Flags are set where they differ alone: setting one costs more than looking.
        for module, flag in training:
            if flag and mode == "eval":
                module.training = False
        with torch.inference_mode(False), torch.enable_grad(), still_statistics(net):
            yield
    finally:
        for module, flag in training:
            if module.training != flag:
                module.training = flag
        for parameter in trained:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _moved(net: nn.Module) -> Iterator[Tensor]:
    """The buffers that a forward pass in train mode may move, those of batch norm apart."""
    for module in net.modules():
        if not isinstance(module, _BatchNorm):
            yield from module.buffers(recurse=False)
