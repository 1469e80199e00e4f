"""Auto-PGD: projected ascent with momentum that finds its own step size."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.autoattack.batch_filling import Found, Runs, undecided
from temper.attacks.gradient_step import at_rows, input_gradient
from temper.attacks.losses import Climb, View, climb, targeted_dlr
from temper.attacks.network_state import Mode
from temper.attacks.threat import Threat, per_example
from temper.config.types import Count, Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network

MOMENTUM = 0.75
RISES = 0.75  # a step size is halved where fewer than this share of the steps since the last check raised the loss


class APGD(Runs):
    """Croce & Hein 2020 (https://arxiv.org/abs/2003.01690), algorithm 1, over any threat set.

    An example that has been misclassified is done: its point is kept, and it is dropped from the batch at the next check of the
    step sizes. That changes no verdict and saves the work. Where the attack fails, the point of highest loss is returned.
    For l1 the steps are those of `L1.direction`, simpler than the paper's successor for that norm.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's.
        loss: "ce", "margin", "dlr", or "targeted": the targeted DLR loss towards each of the likeliest other classes in turn,
            which needs four classes.
        steps: gradient steps per restart.
        restarts: independent runs on the examples that still stand; for "targeted", the number of target classes.
        mode: of the network while it is attacked.
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
        super().__init__(threat=threat.at(eps), runs=restarts, targeted=loss == "targeted", mode=mode)
        self.loss, self.steps = loss, steps

    def check(self, classes: int) -> None:
        if self.targeted and classes < 4:
            raise ValueError(f"the targeted loss needs at least 4 classes; this network has {classes}")

    def run(self, net: Network, batch: Batch, z: Tensor, target: Tensor | None) -> Found:
        found, rows = Found.nothing(z), torch.arange(len(z), device=z.device)
        threat = self.threat.on(batch)
        state = _State.begin(threat, z, batch.mask)
        view = at_rows(self._view(net, batch, target), threat, z)
        window = max(int(0.22 * self.steps), 1)
        since = 0
        for step in range(self.steps):
            gradient, seen = input_gradient(view, state.z)
            state.note(seen, gradient, batch.y)
            since += step > 0
            if since == window:
                state.check(window)
                window, since = max(window - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1)), 0
                left = undecided(state.fooled, batch.index)
                if len(left) < len(rows):
                    found.put(rows, state.found)
                    rows, batch = rows[left], batch.select(left)
                    state = state.only(left, batch.mask)
                    target = None if target is None else target[left]
                    view = at_rows(self._view(net, batch, target), threat, state.centre)
                if len(left) == 0:
                    return found
            state.step(threat)
        with torch.no_grad():
            state.note(view(state.z), None, batch.y)
        found.put(rows, state.found)
        return found

    def _view(self, net: Network, batch: Batch, target: Tensor | None) -> Climb:
        if target is None:
            assert self.loss != "targeted"
            return climb(net, batch, self.loss)

        def view(z: Tensor) -> View:
            logits = net(z).float()
            return View(targeted_dlr(logits, batch.y, target), logits)

        return view


@dataclass
class _State:
    """The points of one run and what is remembered of them, one row an example."""

    centre: Tensor
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
    def begin(cls, threat: Threat, centre: Tensor, mask: Tensor | None) -> "_State":
        # As far out as the ball is wide, in a random direction.
        delta = torch.rand_like(centre) * 2 - 1 if threat.norm == "linf" else torch.randn_like(centre)
        delta = delta * per_example(threat.eps / threat.length(delta), centre)
        start = threat.project(centre + (delta if mask is None else delta * mask), centre)
        worst = torch.full((len(centre),), -torch.inf, device=centre.device)
        size = torch.full_like(worst, (1.0 if threat.norm == "l1" else 2.0) * threat.eps)
        return cls(
            centre=centre,
            mask=mask,
            z=start,
            previous=start,
            size=size,
            gradient=start,
            fooled=torch.zeros_like(worst, dtype=torch.bool),
            best=start,
            best_loss=worst,
            best_gradient=start,
            best_at_check=worst,
            halved=torch.ones_like(worst, dtype=torch.bool),
        )

    def note(self, seen: View, gradient: Tensor | None, y: Tensor) -> None:
        """What one pass shows of the current points; a gradient is taken at all but the last. The first misclassified point of
        an example stays its best one."""
        if gradient is not None:
            self.gradient = gradient if self.mask is None else gradient * self.mask
        wrong = seen.logits.argmax(1) != y
        better = ~self.fooled & (wrong | (seen.loss > self.best_loss))
        self.fooled = self.fooled | wrong
        self.best = where_example(better, self.z, self.best)
        self.best_gradient = where_example(better, self.gradient, self.best_gradient)
        self.best_loss = torch.where(better, seen.loss, self.best_loss)
        if not self.losses:
            # As in the authors' code, the loss after the first step is compared with 0.
            self.losses, self.best_at_check = [torch.zeros_like(seen.loss)], seen.loss
        else:
            self.losses.append(seen.loss)

    @property
    def found(self) -> Found:
        return Found(self.best, self.best_loss, self.fooled)

    def step(self, threat: Threat) -> None:
        size = per_example(self.size, self.z)
        towards = threat.project(self.z + size * threat.direction(self.gradient, self.z), self.centre)
        keep = MOMENTUM if len(self.losses) > 1 else 1.0
        moved = self.z + keep * (towards - self.z) + (1 - keep) * (self.z - self.previous)
        self.previous, self.z = self.z, threat.project(moved, self.centre)

    def check(self, window: int) -> None:
        """Halve the step size of examples that go up and down, or nowhere, and send them back to their best point."""
        recent = torch.stack(self.losses[-window - 1 :])
        wavering = (recent[1:] > recent[:-1]).sum(0) <= RISES * window
        stuck = ~self.halved & (self.best_at_check >= self.best_loss)
        self.halved = wavering | stuck
        self.best_at_check = self.best_loss
        self.size = torch.where(self.halved, self.size / 2, self.size)
        self.z = where_example(self.halved, self.best, self.z)
        self.gradient = where_example(self.halved, self.best_gradient, self.gradient)

    def only(self, rows: Tensor, mask: Tensor | None) -> "_State":
        """The same for these examples alone."""
        values = {name: value[rows] for name, value in vars(self).items() if name not in ("losses", "mask")}
        return _State(**values, mask=mask, losses=[loss[rows] for loss in self.losses])
