"""Auto-PGD: projected ascent with momentum and an adaptive step size."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.autoattack.batch_filling import MultiRunAttack, RunResult, unfooled_rows
from temper.attacks.gradient_step import at_valid_rows, input_gradient
from temper.attacks.losses import LossFn, LossOutput, loss_by_name, loss_of_logits, targeted_dlr
from temper.attacks.network_state import Mode
from temper.attacks.threat import Threat, per_example
from temper.config.types import Count, Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network

MOMENTUM = 0.75
MIN_RISES = 0.75  # a step size is halved if at most this fraction of the steps since the last check raised the loss


class APGD(MultiRunAttack):
    """APGD (Croce & Hein 2020, https://arxiv.org/abs/2003.01690), algorithm 1, for any perturbation set.

    A misclassified example is finished: its point is kept, and it leaves the batch at the next check of the step sizes. This
    changes no verdict and saves computation. Where the attack fails, it returns the point of highest loss. For l1 the steps are
    those of `L1.direction`, simpler than those of the paper's successor for that norm.

    Args:
        threat: the perturbation set.
        eps: overrides the radius of `threat`.
        loss: "ce", "margin", "dlr", or "targeted": the targeted DLR loss towards each of the likeliest other classes in turn,
            which needs four classes.
        steps: gradient steps per restart.
        restarts: independent runs on the examples not yet fooled; for "targeted", the number of target classes.
        mode: mode of the network during the attack.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        eps: Positive | None = None,
        loss: Literal["ce", "margin", "dlr", "targeted"] = "ce",
        steps: Count = 100,
        restarts: Count = 1,
        mode: Mode = "eval",
    ) -> None:
        super().__init__(threat=threat.with_eps(eps), runs=restarts, targeted=loss == "targeted", mode=mode)
        self.loss, self.steps = loss, steps

    def check_classes(self, classes: int) -> None:
        if self.targeted and classes < 4:
            raise ValueError(f"loss=targeted: needs at least 4 classes, but the network has {classes}. Use another loss.")

    def run(self, net: Network, batch: Batch, z: Tensor, target: Tensor | None) -> RunResult:
        result, rows = RunResult.empty(z), torch.arange(len(z), device=z.device)
        threat = self.threat.for_batch(batch)
        state = _State.initial(threat, z, batch.mask)
        loss_fn = at_valid_rows(self._loss_fn(net, batch, target), threat, z)
        window = max(int(0.22 * self.steps), 1)
        since_check = 0
        for step in range(self.steps):
            gradient, output = input_gradient(loss_fn, state.z)
            state.record(output, gradient, batch.y)
            since_check += step > 0
            if since_check == window:
                state.adapt_step_size(window)
                window = max(window - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1))
                since_check = 0
                remaining = unfooled_rows(state.fooled, batch.index)
                if len(remaining) < len(rows):
                    result.assign(rows, state.result)
                    rows, batch = rows[remaining], batch.select(remaining)
                    state = state.select(remaining, batch.mask)
                    target = None if target is None else target[remaining]
                    loss_fn = at_valid_rows(self._loss_fn(net, batch, target), threat, state.center)
                if len(remaining) == 0:
                    return result
            state.step(threat)
        with torch.no_grad():
            state.record(loss_fn(state.z), None, batch.y)
        result.assign(rows, state.result)
        return result

    def _loss_fn(self, net: Network, batch: Batch, target: Tensor | None) -> LossFn:
        if target is None:
            assert self.loss != "targeted"
            return loss_by_name(net, batch, self.loss)
        return loss_of_logits(net, lambda logits: targeted_dlr(logits, batch.y, target))


@dataclass
class _State:
    """Points and history of one run, one row per example.

    Attributes:
        center: the inputs, (n, ...).
        mask: 1 where the adversary may change the input, else 0; None: everywhere.
        z: current points, (n, ...).
        previous: points of the step before.
        size: step size, (n,).
        gradient: gradient at z.
        fooled: True if the example was misclassified at any point, (n,) bool.
        best: first misclassified point, or else the point of highest loss.
        best_loss: loss at `best`.
        best_gradient: gradient at `best`.
        best_at_check: `best_loss` at the last check of the step size.
        halved: True if that check halved the step size.
        losses: losses of all steps.
    """

    center: Tensor
    mask: Tensor | None
    z: Tensor
    previous: Tensor
    size: Tensor
    gradient: Tensor
    fooled: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    best_at_check: Tensor
    halved: Tensor
    losses: list[Tensor] = field(default_factory=list)

    @classmethod
    def initial(cls, threat: Threat, center: Tensor, mask: Tensor | None) -> "_State":
        """Return the state at a start in a random direction, at distance eps."""
        delta = torch.rand_like(center) * 2 - 1 if threat.norm == "linf" else torch.randn_like(center)
        delta = delta * per_example(threat.eps / threat.length(delta), center)
        start = threat.project(center + (delta if mask is None else delta * mask), center)
        lowest_loss = torch.full((len(center),), -torch.inf, device=center.device)
        size = torch.full_like(lowest_loss, (1.0 if threat.norm == "l1" else 2.0) * threat.eps)
        return cls(
            center=center,
            mask=mask,
            z=start,
            previous=start,
            size=size,
            gradient=start,
            fooled=torch.zeros_like(lowest_loss, dtype=torch.bool),
            best=start,
            best_loss=lowest_loss,
            best_gradient=start,
            best_at_check=lowest_loss,
            halved=torch.ones_like(lowest_loss, dtype=torch.bool),
        )

    def record(self, output: LossOutput, gradient: Tensor | None, y: Tensor) -> None:
        """Record the loss and logits at the current points, and the gradient, which is None at the last points.

        The first misclassified point of an example stays its best point.
        """
        if gradient is not None:
            self.gradient = gradient if self.mask is None else gradient * self.mask
        wrong = output.logits.argmax(1) != y
        better = ~self.fooled & (wrong | (output.loss > self.best_loss))
        self.fooled = self.fooled | wrong
        self.best = where_example(better, self.z, self.best)
        self.best_gradient = where_example(better, self.gradient, self.best_gradient)
        self.best_loss = torch.where(better, output.loss, self.best_loss)
        if not self.losses:
            # As in the authors' code, the loss after the first step is compared with 0.
            self.losses, self.best_at_check = [torch.zeros_like(output.loss)], output.loss
        else:
            self.losses.append(output.loss)

    @property
    def result(self) -> RunResult:
        """The best points so far."""
        return RunResult(self.best, self.best_loss, self.fooled)

    def step(self, threat: Threat) -> None:
        """Take a projected step with momentum."""
        size = per_example(self.size, self.z)
        stepped = threat.project(self.z + size * threat.direction(self.gradient, self.z), self.center)
        weight = MOMENTUM if len(self.losses) > 1 else 1.0
        moved = self.z + weight * (stepped - self.z) + (1 - weight) * (self.z - self.previous)
        self.previous, self.z = self.z, threat.project(moved, self.center)

    def adapt_step_size(self, window: int) -> None:
        """Halve the step size of examples whose loss oscillates or stagnates, and return them to their best point."""
        recent = torch.stack(self.losses[-window - 1 :])
        oscillating = (recent[1:] > recent[:-1]).sum(0) <= MIN_RISES * window
        stagnating = ~self.halved & (self.best_at_check >= self.best_loss)
        self.halved = oscillating | stagnating
        self.best_at_check = self.best_loss
        self.size = torch.where(self.halved, self.size / 2, self.size)
        self.z = where_example(self.halved, self.best, self.z)
        self.gradient = where_example(self.halved, self.best_gradient, self.gradient)

    def select(self, rows: Tensor, mask: Tensor | None) -> "_State":
        """Return the state of a selection of the examples, (m,) int64, whose mask is given."""
        values = {name: value[rows] for name, value in vars(self).items() if name not in ("losses", "mask")}
        return _State(**values, mask=mask, losses=[loss[rows] for loss in self.losses])
