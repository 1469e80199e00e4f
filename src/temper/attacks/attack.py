"""Interface of the attack axis."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from temper.attacks.gradient_step import Step, take_step
from temper.data.batch import Batch
from temper.data.sources import Encoder
from temper.models.network import Network


class Attack(nn.Module, ABC):
    """Base class of attacks: an adversary and the loss that is trained against it.

    A subclass implements `perturb`. It overrides `risk` if training minimizes more than the cross-entropy of the adversarial
    logits. An attack is a module, so its state is moved and saved with the network's.

    Attributes:
        replays: number of consecutive steps in which training repeats each batch.
        version: version to record, for an attack that exists in several.
        training_only: True if the points are of no use in an evaluation.
        evaluation_only: True if training at the points is impossible.
        step: function that takes each gradient step.
    """

    replays: int = 1
    version: ClassVar[str | None] = None
    training_only: ClassVar[bool] = False
    evaluation_only: ClassVar[bool] = False
    step: Step = staticmethod(take_step)

    def set_encoder(self, encoder: Encoder | None) -> None:
        """Receive the encoder of the inputs before an evaluation, for an attack that edits what the inputs encode.

        Args:
            encoder: encoder of the data set; None if the inputs are not encoded.

        Raises:
            ValueError: The attack cannot edit these inputs.
        """

    @abstractmethod
    def perturb(self, net: Network, batch: Batch) -> Tensor:
        """Return adversarial points x' for a batch.

        Args:
            net: the attacked network; its state is unchanged afterwards.
            batch: B examples.

        Returns:
            Detached points inside the perturbation set, (B, ...), in the space of `net.lift(x)`. An evaluation-only attack that
            edits the inputs themselves returns new inputs, shaped like `batch.x`.
        """

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        """Return the training loss of each example at x_adv, (B,): by default the cross-entropy with the target."""
        return F.cross_entropy(net(with_lift_gradient(net, batch.x, x_adv)).float(), batch.target, reduction="none")

    def begin(self, step: int, done: float) -> None:
        """Prepare for a training step, for an attack that changes during training.

        Args:
            step: number of the step.
            done: completed fraction of training.
        """

    def after_backward(self) -> None:
        """Use the gradients of the training step's own backward pass, for an attack that needs them."""

    def set_step(self, step: Step) -> None:
        """Take all further gradient steps with `step`, a compiled `take_step`, in this attack and the attacks it contains."""
        for attack in self.modules():
            if isinstance(attack, Attack):
                attack.step = step


def with_lift_gradient(net: Network, x: Tensor, x_adv: Tensor) -> Tensor:
    """Return x_adv with a gradient path to the weights of `net.lift`, if it has any: lift(x) + (x_adv - lift(x)).detach()."""
    z = net.lift(x)
    return x_adv if z is x else z + (x_adv - z.detach())


class NoAttack(Attack):
    """Attack that changes nothing: standard training."""

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        return net.lift(batch.x).detach()
