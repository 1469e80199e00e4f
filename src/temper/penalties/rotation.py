"""A second task that needs no label: by how many quarter turns an image was turned."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.config.types import checked
from temper.data.batch import Batch
from temper.models.network import Network, last_linear
from temper.penalties.augmentation import image_size
from temper.penalties.penalty import Penalty

TURNS = 4


class Rotation(Penalty):
    """CE(head(features(turned x')), turns), a mean over examples: an auxiliary head on the network's last features tells how
    each image was turned (Hendrycks et al. 2019, https://arxiv.org/abs/1906.12340, eq. 3).

    Each image of a batch is turned by 0, 90, 180 or 270 degrees, at random. The head is attacked with the rest: the training
    attack climbs the sum of its own loss and this one, times its weight, so that an attack must sum its loss over examples (all
    but those of torchattacks do). Costs one more forward and backward pass, and in each attack step too; no running statistics
    move in them.
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
        rows, columns = image_size(batch.x)
        if rows != columns:
            raise ValueError(f"images of {rows} x {columns} do not fit themselves after a quarter turn")
        # Drawn on the CPU, so that a GPU sees the same; the copy to it waits for nothing.
        self._turns = torch.randint(TURNS, (len(batch),)).to(batch.y.device, non_blocking=True)
        return batch

    def term(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        return self.losses(net, x_adv).mean()

    def exposed(self, net: Network, batch: Batch, weight: float) -> Network:
        return _Joint(net, self, weight)

    def losses(self, net: Network, x: Tensor) -> Tensor:
        """Of each image as it is, (B, C, H, W) -> (B,): it is turned here."""
        assert self._turns is not None
        turns = self._turns.repeat(len(x) // len(self._turns))  # an attack may return several points for each example
        # All four of each image: to find the rows of one would wait for the device.
        turned = torch.stack([torch.rot90(x, turn, dims=(2, 3)) for turn in range(TURNS)])
        turned = turned[turns, torch.arange(len(x), device=x.device)]
        return F.cross_entropy(self.head(features(net, turned)).float(), turns, reduction="none")


class _Joint(Network):
    """The network to an adversary that climbs the sum of two losses: logits as they were, through which the second loss's
    gradient reaches the input beside that of whatever the attack makes of the logits."""

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
        joined: Tensor = _AlsoClimb.apply(logits, z, self.weight * gradient)
        return joined


class _AlsoClimb(torch.autograd.Function):
    """The logits unchanged; backwards, a gradient of the input that was found before is added to theirs."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, z: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_outputs[0], gradient, None


def features(net: Network, x: Tensor) -> Tensor:
    """What enters the last linear layer, (B, ...) -> (B, F)."""
    seen: list[Tensor] = []
    handle = last_linear(net).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        net(x.view_as(x))  # a point of its own, which no step has passed forward yet
    finally:
        handle.remove()
    return seen[-1]
