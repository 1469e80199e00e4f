"""Single-step adversarial training and defenses against catastrophic overfitting: N-FGSM, GradAlign and free training."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from temper.attacks.ascent import Ascent
from temper.attacks.attack import Attack
from temper.attacks.gradient_step import step_length
from temper.attacks.losses import cross_entropy
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Threat
from temper.config.types import Count, NonNegative, Positive, StepSize, checked
from temper.data.batch import Batch
from temper.models.network import Network


class NFGSM(Attack):
    """N-FGSM (de Jorge et al. 2022, https://arxiv.org/abs/2202.01181): one step from strong noise, without projection.

    x' may leave the ball of radius eps (but not the valid range), which is part of the method, so it is for training only. The
    attribute `reach` is the ball that noise and step span together.

    Args:
        threat: the perturbation set that the network is trained for.
        eps: overrides the radius of `threat`.
        noise: radius of the uniform noise, in eps (2 in the paper; 1 is enough on SVHN).
        step_size: length of the step ("1 eps" in the paper).
        mode: mode of the network during the attack.
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
        self.threat = threat.with_eps(eps)
        self.step_size = step_length(step_size, self.threat, steps=1)
        self.noise = _widen(self.threat, noise * self.threat.eps)
        self.reach = _widen(self.threat, noise * self.threat.eps + self.step_size)
        self.mode = mode

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            noise, reach = (threat.for_batch(batch).around(z) for threat in (self.noise, self.reach))
            noisy = noise.start("uniform", batch.mask)
            x_adv, _ = self.step(cross_entropy(net, batch.target), reach, noisy, self.step_size, batch.mask)
            return reach.finish(x_adv)


def _widen(threat: Threat, eps: float) -> Threat:
    """Return the threat with radius eps; for linf, with at most the width of the valid range."""
    return replace(threat, eps=min(eps, threat.upper - threat.lower) if threat.norm == "linf" else eps)


class GradAlign(Ascent):
    """FGSM with gradient alignment (Andriushchenko & Flammarion 2020, https://arxiv.org/abs/2007.02617), eq. 5.

    risk = CE(f(x'), y) + weight * (1 - cos(grad l(x), grad l(x + u))), with u uniform in the ball. Aligned input gradients
    prevent catastrophic overfitting of single-step training. The term takes two input gradients with double backpropagation,
    about three times FGSM's cost.

    Args:
        weight: weight of the alignment term (0.2 for linf 8/255 on CIFAR-10).
        ascent: settings of `Ascent`; by default one step from zero, as in the paper.
    """

    @checked
    def __init__(self, *, weight: NonNegative = 0.2, **ascent: Any) -> None:
        super().__init__(**(dict[str, Any](steps=1, start="zero") | ascent))
        self.weight = weight

    def risk(self, net: Network, batch: Batch, x_adv: Tensor) -> Tensor:
        risk = super().risk(net, batch, x_adv)
        if self.weight == 0:
            return risk
        z = net.lift(batch.x).detach()
        z_noisy = self.threat.for_batch(batch).around(z).start("uniform", batch.mask)
        at_input, at_noisy = (_normalized_gradient(net, batch, point) for point in (z, z_noisy))
        cosine = F.cosine_similarity(at_input, at_noisy, dim=1)
        # An example whose gradient is 0 has no direction to align.
        nonzero = (at_input.detach().abs().sum(1) > 0) & (at_noisy.detach().abs().sum(1) > 0)
        return risk + self.weight * torch.where(nonzero, 1 - cosine, torch.zeros_like(cosine))


def _normalized_gradient(net: Network, batch: Batch, point: Tensor) -> Tensor:
    """Return the differentiable input gradient of the cross-entropy, (B, n), scaled to a largest entry of 1 in size.

    Squares of tiny gradients would underflow; a cosine does not depend on the scale.
    """
    point = point.detach().requires_grad_(True)
    loss = F.cross_entropy(net(point).float(), batch.target, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
    flat = gradient.flatten(1)
    return flat / flat.detach().abs().amax(1, keepdim=True).clamp_min(1e-30)


class Free(Attack):
    """Free adversarial training (Shafahi et al. 2019, https://arxiv.org/abs/1904.12843), algorithm 1.

    Every backward pass updates both the weights and x'. Each batch is repeated `replays` times in a row, and the perturbation
    carries over from batch to batch. An epoch therefore takes `replays` times as many steps. The paper divides the number of
    epochs by `replays`, so that training costs as much as standard training.

    Args:
        threat: the perturbation set.
        eps: overrides the radius of `threat`.
        replays: m of the paper (8 on CIFAR-10, 4 on ImageNet).
        step_size: step of the perturbation after each backward pass ("1 eps" in the paper).
    """

    training_only = True

    @checked
    def __init__(
        self, *, threat: Threat, eps: Positive | None = None, replays: Count = 8, step_size: StepSize | None = None
    ) -> None:
        super().__init__()
        self.threat = threat.with_eps(eps)
        self.replays = replays
        self.step_size = step_length(step_size, self.threat, steps=1)
        self.delta: Tensor | None = None
        self._leaf: Tensor | None = None

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        """Return x + delta, (B, ...), with a graph through which the training's own backward pass reaches delta."""
        z = net.lift(batch.x).detach()
        if self.delta is None or len(self.delta) < len(z) or self.delta.shape[1:] != z.shape[1:]:
            self.delta = torch.zeros_like(z)
        self.delta = self.delta.to(z.device)
        with torch.inference_mode(False), torch.enable_grad():
            self._leaf = self.delta[: len(z)].clone().requires_grad_(True)
            delta = self._leaf if batch.mask is None else self._leaf * batch.mask
            threat = self.threat.for_batch(batch)
            return (z + delta).clamp(threat.lower, threat.upper)

    def after_backward(self) -> None:
        leaf = self._leaf
        if leaf is None or leaf.grad is None or self.delta is None:
            return
        with torch.no_grad():
            stepped = leaf + self.step_size * self.threat.direction(leaf.grad)
            self.delta[: len(leaf)] = self.threat.project_delta(stepped)
        self._leaf = None

    def get_extra_state(self) -> Tensor | None:
        """Return the perturbation; it is not a buffer, since its shape is unknown before the first batch."""
        return self.delta

    def set_extra_state(self, state: Tensor | None) -> None:
        self.delta = state
