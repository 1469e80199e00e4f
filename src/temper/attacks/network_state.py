"""Context in which an attack queries a network without changing it."""

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
    """Attack a network in `mode`: gradients are enabled and reach only the input; restore the network on exit.

    On exit, also after an exception, every submodule's `training` flag, every `requires_grad` and every buffer is as before.
    (`.grad` is never touched, since attacks call `torch.autograd.grad`.) Mode "train" leaves frozen submodules frozen; its
    forward passes do not update running statistics, and all other buffers they change are restored. The literature uses both
    modes, with different results (Pang et al. 2021, https://arxiv.org/abs/2010.00467).
    """
    training = [(module, module.training) for module in net.modules()]
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad and parameter.is_leaf]
    buffers = [(buffer, buffer.clone()) for buffer in _mutable_buffers(net)] if mode == "train" else []
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        # Setting a flag costs more than reading it, so only those that differ are set.
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


def _mutable_buffers(net: nn.Module) -> Iterator[Tensor]:
    """Yield the buffers that a forward pass in train mode may change, except those of batch norm."""
    for module in net.modules():
        if not isinstance(module, _BatchNorm):
            yield from module.buffers(recurse=False)
