"""Adversarial training at about the price of standard training, and what keeps it from collapsing."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.attack import Attack
from temper.attacks.gradient_step import step_length
from temper.attacks.losses import Climb, cross_entropy
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Threat
from temper.config.types import Count, NonNegative, Positive, StepSize, checked
from temper.data.batch import Batch
from temper.models.network import Network


class NFGSM(Attack):
    """de Jorge et al. 2022 (https://arxiv.org/abs/2202.01181): one step from strong noise, never projected back onto the ball.

    That x' may leave the ball of radius eps (never the valid range) is the method: it is for training alone. `reach` is the
    ball that noise and step span together.

    Args:
        threat: the set that the network is to withstand.
        eps: another radius than the threat's.
        noise: radius of the uniform noise, in eps (2 in the paper, 1 suffices on SVHN).
        step_size: of the step ("1 eps" in the paper).
        mode: of the network while it is attacked.
    """

    training_only = True

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        eps: Positive | None = None,
        noise: Positive = 2.0,
        step_size: StepSize | None = None,
        mode: Mode = "eval",
    ) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        self.step_size = step_length(step_size, self.threat, steps=1)
        self.noise = _wider(self.threat, noise * self.threat.eps)
        self.reach = _wider(self.threat, noise * self.threat.eps + self.step_size)
        self.mode = mode

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            noise, reach = (threat.on(batch).around(z) for threat in (self.noise, self.reach))
            noisy = noise.start("uniform", batch.mask)
            x_adv, _ = self.step(cross_entropy(net, batch.target), reach, noisy, self.step_size, batch.mask)
            return reach.finish(x_adv)


def _wider(threat: Threat, eps: float) -> Threat:
    """The same norm with another radius, no wider than the whole range where that is all it could be."""
    return replace(threat, eps=min(eps, threat.upper - threat.lower) if threat.norm == "linf" else eps)


class GradAlign(Ascent):
    """Andriushchenko & Flammarion 2020 (https://arxiv.org/abs/2007.02617), eq. 5: FGSM, and gradients that point the same way.

    risk = CE(f(x'), y) + weight * (1 - cos(grad l(x), grad l(x + u))) with u uniform in the ball; the alignment of input
    gradients keeps single steps from collapsing. It takes two input gradients with double backpropagation, about three times
    FGSM's cost.

    Args:
        weight: of the alignment (0.2 for linf 8/255 on CIFAR-10).
        ascent: settings of `Ascent`: one step from zero in the paper.
    """

    @checked
    def __init__(self, *, weight: NonNegative = 0.2, **ascent: Any) -> None:
        super().__init__(**(dict[str, Any](steps=1, start="zero") | ascent))
        self.weight = weight

    def climb(self, net: Network, batch: Batch, z: Tensor) -> Climb:
        return cross_entropy(net, batch.target)

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        risk = super().risk(net, batch, x_adv)
        if self.weight == 0:
            return risk
        z = net.lift(batch.x).detach()
        near = self.threat.on(batch).around(z).start("uniform", batch.mask)
        at_input, nearby = (_gradient(net, batch, point) for point in (z, near))
        cosine = F.cosine_similarity(at_input, nearby, dim=1)
        # An example without a gradient has no direction to align.
        some = (at_input.detach().abs().sum(1) > 0) & (nearby.detach().abs().sum(1) > 0)
        return risk + self.weight * torch.where(some, 1 - cosine, torch.zeros_like(cosine))


def _gradient(net: Network, batch: Batch, point: Tensor) -> Tensor:
    """Input gradient of the cross-entropy, (B, n), through which weights can be trained."""
    point = point.detach().requires_grad_(True)
    loss = F.cross_entropy(net(point).float(), batch.target, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
    # Tiny gradients are scaled up, so that their squares do not underflow; a cosine does not see it.
    flat = gradient.flatten(1)
    return flat / flat.detach().abs().amax(1, keepdim=True).clamp_min(1e-30)


class Free(Attack):
    """Shafahi et al. 2019 (https://arxiv.org/abs/1904.12843), algorithm 1: every backward pass trains the weights and moves x'.

    Each batch is given `replays` times in a row; the perturbation goes on from batch to batch. An epoch therefore takes
    `replays` times as many steps: the paper divides the number of epochs by it, which makes training as cheap as the standard
    one.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's.
        replays: m of the paper (8 on CIFAR-10, 4 on ImageNet).
        step_size: of the perturbation after each backward pass ("1 eps" in the paper).
    """

    training_only = True

    @checked
    def __init__(
        self, *, threat: Threat, eps: Positive | None = None, replays: Count = 8, step_size: StepSize | None = None
    ) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        self.replays = replays
        self.step_size = step_length(step_size, self.threat, steps=1)
        self.delta: Tensor | None = None
        self._leaf: Tensor | None = None

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        """x + delta, through which the training's own backward pass reaches delta."""
        z = net.lift(batch.x).detach()
        if self.delta is None or len(self.delta) < len(z) or self.delta.shape[1:] != z.shape[1:]:
            self.delta = torch.zeros_like(z)
        self.delta = self.delta.to(z.device)
        with torch.inference_mode(False), torch.enable_grad():
            self._leaf = self.delta[: len(z)].clone().requires_grad_(True)
            moved = self._leaf if batch.mask is None else self._leaf * batch.mask
            threat = self.threat.on(batch)
            return (z + moved).clamp(threat.lower, threat.upper)

    def after_backward(self) -> None:
        leaf = self._leaf
        if leaf is None or leaf.grad is None or self.delta is None:
            return
        with torch.no_grad():
            self.delta[: len(leaf)] = self.threat.shrink(leaf + self.step_size * self.threat.direction(leaf.grad))
        self._leaf = None

    def get_extra_state(self) -> Tensor | None:
        """The perturbation, whose shape is known with the first batch only."""
        return self.delta

    def set_extra_state(self, state: Tensor | None) -> None:
        self.delta = state
