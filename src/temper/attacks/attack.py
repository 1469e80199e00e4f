"""The interface of the attack axis."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from temper.attacks.gradient_step import Step, take_step
from temper.data.batch import Batch
from temper.data.sources import Encoder
from temper.models.network import Network


class Attack(nn.Module, ABC):
    """An adversary, and what is trained against it.

    To write one, implement `perturb`; redefine `risk` if training compares more than the adversarial logits with the target.
    An attack is a module, so that state of its own is moved and saved with the network's.

    Attributes:
        replays: how often each training batch is given in a row.
        version: of an attack that exists in several, for the record.
        training_only: its points are of no use in an evaluation.
        evaluation_only: nothing can be trained at its points.
        step: what an ascent takes its steps by.
    """

    replays: int = 1
    version: ClassVar[str | None] = None
    training_only: ClassVar[bool] = False
    evaluation_only: ClassVar[bool] = False
    step: Step = staticmethod(take_step)

    def meet(self, encoder: Encoder | None) -> None:
        """Before an evaluation, given what its inputs were encoded by (None: nothing): for an attack that edits what they stand
        for.

        Raises:
            ValueError: it cannot edit that.
        """

    @abstractmethod
    def perturb(self, net: Network, batch: Batch) -> Tensor:
        """Adversarial points x' for a batch, (B, ...) in the space of `net.lift(x)`, detached and inside the threat set.

        Of an attack that edits the inputs themselves, and is for evaluation only, other inputs, shaped like `batch.x`.
        """

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        """Loss of each example, (B,), at the points that `perturb` found: by default their cross-entropy with the target."""
        return F.cross_entropy(net(land(net, batch.x, x_adv)).float(), batch.target, reduction="none")

    def begin(self, step: int, done: float) -> None:
        """Before each training step, given its number and the share of training that is done: for an attack that changes."""

    def after_backward(self) -> None:
        """After each backward pass of training: for an attack that uses the gradient which training took anyway."""

    def step_by(self, step: Step) -> None:
        """Take every step by `step` from now on: the same function, compiled; attacks that this one is made of do likewise."""
        for attack in self.modules():
            if isinstance(attack, Attack):
                attack.step = step


def land(net: Network, x: Tensor, x_adv: Tensor) -> Tensor:
    """x' as the training forward pass sees it: where `lift` has weights of its own, they receive their gradient."""
    z = net.lift(x)
    return x_adv if z is x else z + (x_adv - z.detach())


class NoAttack(Attack):
    """The adversary that does nothing: clean training."""

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        return net.lift(batch.x).detach()
