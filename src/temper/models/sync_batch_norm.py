"""Synchronized batch norm for CPUs; torch's own works on GPUs only."""

from typing import cast

import torch
import torch.distributed as dist
import torch.distributed.nn as collective
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm of inputs (B, C, ...) that uses the examples of all ranks in train mode.

    It computes what a single process computes for the whole batch. Ranks may have different numbers of examples.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # the replaced layer was built for its input

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        dims = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = input.new_tensor([input.numel() / input.shape[1]])
        dist.all_reduce(count)
        mean = collective.all_reduce(input.sum(dims)) / count
        centered = input - mean.view(shape)
        variance = collective.all_reduce(centered.square().sum(dims)) / count
        if self.track_running_stats:
            with torch.no_grad():
                cast(Tensor, self.num_batches_tracked).add_(1)
                momentum = 1 / float(cast(Tensor, self.num_batches_tracked)) if self.momentum is None else self.momentum
                cast(Tensor, self.running_mean).lerp_(mean, momentum)
                cast(Tensor, self.running_var).lerp_(variance * count / (count - 1), momentum)
        normal = centered * (variance + self.eps).rsqrt().view(shape)
        return normal if self.weight is None else normal * self.weight.view(shape) + self.bias.view(shape)


class SynchronizedLayers(LayerSync):
    """Lightning plugin that synchronizes all batch norm layers.

    Only the class of a layer changes, and `revert` restores it; weights, buffers and names stay the same.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, SynchronizedBatchNorm):
                module._plain_class = type(module)  # type: ignore[assignment]
                module.__class__ = SynchronizedBatchNorm
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, SynchronizedBatchNorm):
                module.__class__ = cast(type, module.__dict__.pop("_plain_class"))
        return model
