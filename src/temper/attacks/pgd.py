"""Projected gradient descent, and FGSM as its single step."""

from dataclasses import replace

from torch import Tensor

from temper.arguments import Count, Positive, checked
from temper.attacks.ascent import Keep, Worst, ascend, cross_entropy
from temper.attacks.attack import Attack
from temper.attacks.probing import Mode, probing
from temper.attacks.threat import Start, Threat
from temper.data.batch import Batch
from temper.models.network import Network


class PGD(Attack):
    """Madry et al. 2018 (https://arxiv.org/abs/1706.06083): steepest ascent on the cross-entropy, projected onto the set.

    With one step from zero it is FGSM (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572).

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's, to train at one and be evaluated at the other.
        steps: gradient steps per restart.
        step_size: length of a step in the threat's norm; None: 2.5 eps / steps, at most eps.
        start: "zero", "uniform" in the set, or "gaussian" (0.001 * normal).
        restarts: independent runs; the worst one counts for each example.
        keep: "last" point of a run as in training, or "worst" on the way: then more steps and restarts never help the defender.
        mode: of the network while it is attacked.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        eps: Positive | None = None,
        steps: Count = 10,
        step_size: Positive | None = None,
        start: Start = "uniform",
        restarts: Count = 1,
        keep: Keep = "last",
        mode: Mode = "eval",
    ) -> None:
        super().__init__()
        self.threat = threat if eps is None else replace(threat, eps=eps)
        self.steps, self.restarts = steps, restarts
        self.step_size = default_step_size(self.threat, steps) if step_size is None else step_size
        self.start, self.keep, self.mode = start, keep, mode
        if restarts > 1 and start == "zero":
            raise ValueError("restarts: every run from a zero start is the same; set start to uniform")

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            climb = cross_entropy(net, batch.target)
            # A single run that keeps its last point needs no bookkeeping, and no forward pass at its end.
            worst = Worst(z, batch.y) if self.keep == "worst" or self.restarts > 1 else None
            for _ in range(self.restarts):
                z_adv = ascend(
                    climb,
                    z,
                    self.threat.start(z, self.start),
                    self.threat,
                    steps=self.steps,
                    step_size=self.step_size,
                    mask=batch.mask,
                    worst=worst,
                )
            return self.threat.finish(z_adv if worst is None else worst.z, z).detach()


def default_step_size(threat: Threat, steps: int) -> float:
    """2.5 eps / steps, so that every point of the set can be reached from any other, but never longer than eps."""
    return min(threat.eps, 2.5 * threat.eps / steps)
