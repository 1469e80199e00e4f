"""The inner maximization: projected steepest ascent on a per-example loss."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from temper.attacks.attack import Attack
from temper.attacks.gradient_step import Step, at_rows, step_length, take_step
from temper.attacks.losses import Climb, View
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Ball, Start, Threat, per_example
from temper.config.types import Count, Positive, StepSize, checked
from temper.data.batch import Batch
from temper.models.network import Network

Keep = Literal["last", "worst"]


class Ascent(Attack, ABC):
    """What all attacks share that climb a loss step by step inside a threat set; a subclass says which loss.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's, to train at one and be evaluated at the other.
        steps: gradient steps per restart.
        step_size: length of a step in the threat's norm, or a multiple of the radius ("1.25 eps"); None: 2.5 eps / steps, at
            most eps.
        start: "zero", "uniform" in the set, or "gaussian" (0.001 * normal).
        restarts: independent runs; the worst one counts for each example.
        keep: "last" point of a run as in training, or "worst" on the way: then more steps and restarts never help the defender.
        mode: of the network while it is attacked.
        stop_after: steps that an example still takes once it is misclassified, after which it leaves the batch; None: all of
            them. Each step then waits for the device. In an evaluation 0 gives the verdicts of keep="worst" for less. In
            training it is another, weaker attack: early-stopped PGD (Zhang et al. 2020, https://arxiv.org/abs/2002.11242,
            algorithm 1, tau).
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        eps: Positive | None = None,
        steps: Count = 10,
        step_size: StepSize | None = None,
        start: Start = "uniform",
        restarts: Count = 1,
        keep: Keep = "last",
        mode: Mode = "eval",
        stop_after: Annotated[int, Field(ge=0)] | None = None,
    ) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        self.steps, self.step_size, self.restarts = steps, step_size, restarts
        self.start, self.keep, self.mode, self.stop_after = start, keep, mode, stop_after
        if stop_after is not None and (restarts > 1 or keep == "worst"):
            raise ValueError("stop_after: is for a single run that keeps its last point; set restarts to 1 and keep to last")
        if restarts > 1 and start == "zero":
            raise ValueError("restarts: every run from a zero start is the same; set start to uniform")

    @abstractmethod
    def climb(self, net: Network, batch: Batch, z: Tensor) -> Climb:
        """The loss that the adversary climbs from the inputs z = lift(x), (B, ...)."""

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            ball = self.threat.on(batch).around(z)
            step_size = step_length(self.step_size, self.threat, self.steps)
            if self.stop_after is not None:
                return ball.finish(self._stopping(net, batch, ball, step_size, self.stop_after))
            climb = at_rows(self.climb(net, batch, z), ball.threat, z)
            # A single run that keeps its last point needs no bookkeeping, and no forward pass at its end.
            worst = Worst(z, batch.y) if self.keep == "worst" or self.restarts > 1 else None
            for _ in range(self.restarts):
                start = ball.start(self.start, batch.mask)
                z_adv = ascend(
                    climb, ball, start, steps=self.steps, step_size=step_size, mask=batch.mask, worst=worst, step=self.step
                )
            return ball.finish(z_adv if worst is None else worst.z)

    def _stopping(self, net: Network, batch: Batch, ball: Ball, step_size: float, stop_after: int) -> Tensor:
        """The last points of a run that examples leave so many steps after they are misclassified."""
        z_adv = ball.start(self.start, batch.mask)
        rows = torch.arange(len(batch), device=z_adv.device)
        left = torch.full_like(rows, stop_after)
        climb = at_rows(self.climb(net, batch, ball.x), ball.threat, ball.x)
        for _ in range(self.steps):
            moved, view = self.step(climb, ball, z_adv[rows], step_size, batch.mask)
            wrong = view.logits.argmax(1) != batch.y
            going = (~wrong | (left > 0)).nonzero().squeeze(1)
            left = (left - wrong.long())[going]
            if len(going) < len(rows):
                rows, batch, ball = rows[going], batch.select(going), ball.select(going)
                if len(rows) == 0:
                    break
                climb = at_rows(self.climb(net, batch, ball.x), ball.threat, ball.x)
            z_adv[rows] = moved[going]
        return z_adv


def ascend(
    climb: Climb,
    ball: Ball,
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    mask: Tensor | None = None,
    worst: "Worst | None" = None,
    step: Step = take_step,
) -> Tensor:
    """Climb `steps` times from `start` inside the threat set; returns the last point.

    Every point on the way, the start and the end included, is shown to `worst` where one is given: with the same start,
    more steps or more restarts then never leave an example better off. That costs one forward pass more.

    Args:
        climb: the loss, given points.
        ball: the set around the inputs.
        start: where to begin, (B, ...), inside the set.
        step_size: length of a step in the threat's norm.
        mask: 1 where the adversary may change the input.
        step: `take_step`, or the same compiled.
    """
    z = start
    for _ in range(steps):
        following, view = step(climb, ball, z, step_size, mask)
        if worst is not None:
            worst.consider(z, view)
        z = following
    if worst is not None:
        with torch.no_grad():
            worst.consider(z, climb(z))
    return z


class Worst:
    """The worst point seen so far for each example: a misclassified one before any other, then the higher loss."""

    def __init__(self, z: Tensor, y: Tensor) -> None:
        self.z, self.y = z.clone(), y
        self.wrong = torch.zeros_like(y, dtype=torch.bool)
        self.loss = torch.full(y.shape, -torch.inf, device=y.device)

    def consider(self, z: Tensor, view: View) -> None:
        wrong = view.logits.argmax(1) != self.y
        better = (wrong & ~self.wrong) | ((wrong == self.wrong) & (view.loss > self.loss))
        self.wrong = wrong | self.wrong
        self.loss = torch.where(better, view.loss, self.loss)
        self.z = where_example(better, z, self.z)


def where_example(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """`one` for the examples that are chosen, (B,) bool, else `other`, (B, ...)."""
    return torch.where(per_example(chosen, one), one, other)
