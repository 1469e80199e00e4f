"""Inner maximization: projected steepest ascent on a per-example loss."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from temper.attacks.attack import Attack
from temper.attacks.gradient_step import Step, at_valid_rows, step_length, take_step
from temper.attacks.losses import LossFn, LossOutput, cross_entropy
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Ball, Start, Threat, per_example
from temper.config.types import Count, Positive, StepSize, checked
from temper.data.batch import Batch
from temper.models.network import Network

Keep = Literal["last", "worst"]


class Ascent(Attack):
    """Base class of attacks that maximize a loss step by step inside a perturbation set.

    Args:
        threat: the perturbation set.
        eps: overrides the radius of `threat`, to train at one radius and evaluate at another.
        steps: gradient steps per restart.
        step_size: length of a step in the threat's norm, or a multiple of the radius ("1.25 eps"); None: 2.5 eps / steps, at
            most eps.
        start: "zero", "uniform" in the set, or "gaussian" (0.001 * normal).
        restarts: independent runs; the worst one counts for each example.
        keep: "last" point of a run, as in training, or "worst" point of all steps: more steps and restarts then never raise
            robust accuracy.
        mode: mode of the network during the attack.
        stop_after: steps that an example still takes once it is misclassified, after which it leaves the batch; None: all
            steps. Each step then waits for the device. In an evaluation, 0 gives the verdicts of keep="worst" at lower cost. In
            training it is another, weaker attack: early-stopped PGD (Zhang et al. 2020, https://arxiv.org/abs/2002.11242,
            algorithm 1, tau).

    Raises:
        ValueError: Two arguments exclude each other.
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
        self.threat = threat.with_eps(eps)
        self.steps, self.step_size, self.restarts = steps, step_size, restarts
        self.start, self.keep, self.mode, self.stop_after = start, keep, mode, stop_after
        if stop_after is not None and (restarts > 1 or keep == "worst"):
            raise ValueError(
                "stop_after: only works with a single run that keeps its last point. Set restarts=1 and keep=last."
            )
        if restarts > 1 and start == "zero":
            raise ValueError("restarts: all runs from a zero start are identical. Set start=uniform.")

    def inner_loss(self, net: Network, batch: Batch, z: Tensor) -> LossFn:
        """Return the loss to maximize around the inputs z = lift(x), (B, ...): by default the cross-entropy with the target."""
        return cross_entropy(net, batch.target)

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            ball = self.threat.for_batch(batch).around(z)
            step_size = step_length(self.step_size, self.threat, self.steps)
            if self.stop_after is not None:
                return ball.finish(self._ascend_until_fooled(net, batch, ball, step_size, self.stop_after))
            loss_fn = at_valid_rows(self.inner_loss(net, batch, z), ball.threat, z)
            # A single run that keeps its last point needs no bookkeeping and no forward pass at its end.
            worst = WorstPoints(z, batch.y) if self.keep == "worst" or self.restarts > 1 else None
            for _ in range(self.restarts):
                start = ball.start(self.start, batch.mask)
                z_adv = ascend(
                    loss_fn, ball, start, steps=self.steps, step_size=step_size, mask=batch.mask, worst=worst, step=self.step
                )
            return ball.finish(z_adv if worst is None else worst.z)

    def _ascend_until_fooled(self, net: Network, batch: Batch, ball: Ball, step_size: float, stop_after: int) -> Tensor:
        """Return the last points of a run in which examples take only `stop_after` steps after they are misclassified."""
        z_adv = ball.start(self.start, batch.mask)
        rows = torch.arange(len(batch), device=z_adv.device)
        steps_left = torch.full_like(rows, stop_after)
        loss_fn = at_valid_rows(self.inner_loss(net, batch, ball.x), ball.threat, ball.x)
        for _ in range(self.steps):
            stepped, output = self.step(loss_fn, ball, z_adv[rows], step_size, batch.mask)
            wrong = output.logits.argmax(1) != batch.y
            active = (~wrong | (steps_left > 0)).nonzero().squeeze(1)
            steps_left = (steps_left - wrong.long())[active]
            if len(active) < len(rows):
                rows, batch, ball = rows[active], batch.select(active), ball.select(active)
                if len(rows) == 0:
                    break
                loss_fn = at_valid_rows(self.inner_loss(net, batch, ball.x), ball.threat, ball.x)
            z_adv[rows] = stepped[active]
        return z_adv


def ascend(
    loss_fn: LossFn,
    ball: Ball,
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    mask: Tensor | None = None,
    worst: "WorstPoints | None" = None,
    step: Step = take_step,
) -> Tensor:
    """Take steps of projected ascent inside a perturbation set and return the last point, (B, ...).

    Args:
        loss_fn: the loss to maximize.
        ball: the perturbation set around the inputs.
        start: first point, (B, ...), inside the set.
        steps: number of steps.
        step_size: length of a step in the threat's norm.
        mask: 1 where the adversary may change the input, else 0.
        worst: if given, is updated with every point, including the first and the last, at the cost of one more forward pass.
            With the same start, more steps or more restarts then never leave an example less fooled.
        step: `take_step`, or its compiled version.
    """
    z = start
    for _ in range(steps):
        next_z, output = step(loss_fn, ball, z, step_size, mask)
        if worst is not None:
            worst.update(z, output)
        z = next_z
    if worst is not None:
        with torch.no_grad():
            worst.update(z, loss_fn(z))
    return z


class WorstPoints:
    """The worst point so far of each example: a misclassified point before any other, then the one of higher loss.

    Args:
        z: the inputs, (B, ...), returned for an example without any update.
        y: labels, (B,).
    """

    def __init__(self, z: Tensor, y: Tensor) -> None:
        self.z, self.y = z.clone(), y
        self.wrong = torch.zeros_like(y, dtype=torch.bool)
        self.loss = torch.full(y.shape, -torch.inf, device=y.device)

    def update(self, z: Tensor, output: LossOutput) -> None:
        """Keep the points z, (B, ...), of the examples for which they are worse than the present ones."""
        wrong = output.logits.argmax(1) != self.y
        better = (wrong & ~self.wrong) | ((wrong == self.wrong) & (output.loss > self.loss))
        self.wrong = wrong | self.wrong
        self.loss = torch.where(better, output.loss, self.loss)
        self.z = where_example(better, z, self.z)


def where_example(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return a, (B, ...), for the examples that meet the condition, (B,) bool, and b for the others."""
    return torch.where(per_example(condition, a), a, b)
