"""Rotation prediction as a self-supervised auxiliary task."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.config.types import checked
from temper.data.batch import Batch
from temper.models.network import Network, last_linear
from temper.penalties.augmentation import image_size
from temper.penalties.penalty import Penalty

TURNS = 4  # quarter turns that the head distinguishes


class Rotation(Penalty):
    """Rotation prediction by an auxiliary head on the network's last features.

    CE(head(features(rotated x')), turns), averaged over examples (Hendrycks et al. 2019, https://arxiv.org/abs/1906.12340,
    eq. 3). Each image of a batch is rotated by 0, 90, 180 or 270 degrees at random.

    The training attack maximizes the sum of its own loss and the weighted rotation loss. It must therefore sum its loss over
    examples, as all attacks do except those of torchattacks. Costs one more forward and backward pass, also in each attack
    step; these passes do not update running statistics.
    """

    neutral = ("weight=0",)

    @checked
    def __init__(self) -> None:
        super().__init__()
        self._turns: Tensor | None = None

    def prepare(self, net: Network) -> Network:
        self.head = nn.Linear(last_linear(net).in_features, TURNS)
        return net

    def transform(self, batch: Batch) -> Batch:
        height, width = image_size(batch.x)
        if height != width:
            raise ValueError(f"images of {height} x {width} change their shape by a quarter turn. Use square images.")
        # Drawn on the CPU, so all devices get the same numbers; the asynchronous copy does not wait for the device.
        self._turns = torch.randint(TURNS, (len(batch),)).to(batch.y.device, non_blocking=True)
        return batch

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return self.losses(net, x_adv).mean()

    def attacked_network(self, net: Network, batch: Batch, weight: float) -> Network:
        return _JointNetwork(net, self, weight)

    def losses(self, net: Network, x: Tensor) -> Tensor:
        """Compute the loss of each image, (B, C, H, W) -> (B,). The images are rotated here, by the turns of the batch."""
        assert self._turns is not None
        turns = self._turns.repeat(len(x) // len(self._turns))  # an attack may return several points for each example
        # All four rotations of each image: selecting the images of one rotation would wait for the device.
        rotated = torch.stack([torch.rot90(x, turn, dims=(2, 3)) for turn in range(TURNS)])
        rotated = rotated[turns, torch.arange(len(x), device=x.device)]
        return F.cross_entropy(self.head(features(net, rotated)).float(), turns, reduction="none")


class _JointNetwork(Network):
    """Network for an attack that maximizes its own loss plus the rotation loss.

    The logits are those of the network. In the backward pass the gradient of the rotation loss is added to the gradient of the
    attack's own loss.
    """

    def __init__(self, net: Network, rotation: Rotation, weight: float) -> None:
        super().__init__()
        self.net, self.rotation, self.weight = net, rotation, weight

    def lift(self, x: Tensor) -> Tensor:
        return self.net.lift(x)

    def logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.net(z)
        if not (z.requires_grad and torch.is_grad_enabled()):
            return logits
        point = z.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.rotation.losses(self.net, point).sum(), point)
        joint: Tensor = _AddGradient.apply(logits, z, self.weight * gradient)
        return joint


class _AddGradient(torch.autograd.Function):
    """Identity of the logits, whose backward pass adds a precomputed gradient with respect to the input."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, z: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_outputs[0], gradient, None


def features(net: Network, x: Tensor) -> Tensor:
    """Compute the inputs of the last linear layer, (B, ...) -> (B, F)."""
    inputs: list[Tensor] = []
    handle = last_linear(net).register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    try:
        net(x.view_as(x))  # a new tensor, whose logits a step network has not cached
    finally:
        handle.remove()
    return inputs[-1]
