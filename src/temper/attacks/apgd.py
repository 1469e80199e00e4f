"""Auto-PGD: projected ascent with momentum that finds its own step size."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from temper.arguments import Count, Positive, checked
from temper.attacks.ascent import where_example
from temper.attacks.attack import Attack
from temper.attacks.losses import Climb, View, climb, targeted_dlr
from temper.attacks.probing import Mode, probing
from temper.attacks.steps import input_gradient
from temper.attacks.threat import Threat, per_example
from temper.data.batch import Batch
from temper.models.network import Network

MOMENTUM = 0.75
RISES = 0.75  # a step size is halved where fewer than this share of the steps since the last check raised the loss


class APGD(Attack):
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
        super().__init__()
        self.threat = threat.at(eps)
        self.loss, self.steps, self.restarts, self.mode = loss, steps, restarts, mode

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, self.mode):
            z = net.lift(batch.x).detach()
            with torch.no_grad():
                logits = net(z)
            result, highest = z.clone(), torch.full((len(z),), -torch.inf, device=z.device)
            standing = (logits.argmax(1) == batch.y).nonzero().squeeze(1)
            if self.loss == "targeted" and logits.shape[1] < 4:
                raise ValueError(f"the targeted loss needs at least 4 classes; this network has {logits.shape[1]}")
            ranking = logits.argsort(dim=1, descending=True)
            runs = min(self.restarts, logits.shape[1] - 1) if self.loss == "targeted" else self.restarts
            for run in range(runs):
                if len(standing) == 0:
                    break
                # The label comes first in the ranking of an example that stands.
                target = ranking[standing, run + 1] if self.loss == "targeted" else None
                found = self._ascend(net, batch, z, standing, target)
                better = found.fooled | (found.loss > highest[standing])
                result[standing] = where_example(better, found.z, result[standing])
                highest[standing] = torch.maximum(highest[standing], found.loss)
                standing = standing[~found.fooled]
            return self.threat.finish(result, z).detach()

    def _ascend(self, net: Network, batch: Batch, z: Tensor, chosen: Tensor, target: Tensor | None) -> "Found":
        """One run on the chosen examples, (n,) int64."""
        centre = z[chosen]
        found = Found(centre.clone(), torch.full((len(chosen),), -torch.inf, device=z.device), torch.zeros_like(chosen).bool())
        part = batch.select(chosen)
        state = _State.begin(self.threat, centre, part.mask)
        rows = torch.arange(len(chosen), device=z.device)
        view = self._view(net, part, target)
        window = max(int(0.22 * self.steps), 1)
        since = 0
        for step in range(self.steps + 1):
            if step == self.steps:
                with torch.no_grad():
                    seen = view(state.z)
                gradient = None
            else:
                gradient, seen = input_gradient(view, state.z)
            fooled = seen.logits.argmax(1) != part.y
            state.note(seen.loss, gradient, first=step == 0)
            found.keep(rows, state, fooled)
            if gradient is None:
                break
            since += step > 0
            if since == window:
                state.check(window)
                window, since = max(window - max(int(0.03 * self.steps), 1), max(int(0.06 * self.steps), 1)), 0
                standing = (~found.fooled[rows]).nonzero().squeeze(1)
                if len(standing) == 0:
                    return found
                if len(standing) < len(rows):
                    rows, part = rows[standing], part.select(standing)
                    state = state.only(standing, part.mask)
                    target = None if target is None else target[standing]
                    view = self._view(net, part, target)
            state.step(self.threat)
        found.settle(rows, state)
        return found

    def _view(self, net: Network, batch: Batch, target: Tensor | None) -> Climb:
        if target is None:
            assert self.loss != "targeted"
            return climb(net, batch, self.loss)

        def view(z: Tensor) -> View:
            logits = net(z).float()
            return View(targeted_dlr(logits, batch.y, target), logits)

        return view


class Found(NamedTuple):
    """What a run found: for each example a misclassified point if there was one, else the point of highest loss."""

    z: Tensor
    loss: Tensor
    fooled: Tensor

    def keep(self, rows: Tensor, state: "_State", fooled: Tensor) -> None:
        """The current points of these rows that are misclassified for the first time."""
        new = fooled & ~self.fooled[rows]
        self.z[rows] = where_example(new, state.z, self.z[rows])
        self.loss[rows] = torch.where(new, state.loss, self.loss[rows])
        self.fooled[rows] |= fooled

    def settle(self, rows: Tensor, state: "_State") -> None:
        """For the rows that withstood, the best points."""
        standing = ~self.fooled[rows]
        self.z[rows] = where_example(standing, state.best, self.z[rows])
        self.loss[rows] = torch.where(standing, state.best_loss, self.loss[rows])


@dataclass
class _State:
    """The points of one run and what is remembered of them, one row an example."""

    centre: Tensor
    mask: Tensor | None
    z: Tensor
    previous: Tensor
    size: Tensor
    loss: Tensor
    gradient: Tensor
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
            loss=worst,
            gradient=start,
            best=start,
            best_loss=worst,
            best_gradient=start,
            best_at_check=worst,
            halved=torch.ones_like(worst, dtype=torch.bool),
        )

    def note(self, loss: Tensor, gradient: Tensor | None, *, first: bool) -> None:
        """The loss, and the gradient if one was taken, at the current points."""
        self.loss = loss
        if gradient is not None:
            self.gradient = gradient if self.mask is None else gradient * self.mask
        better = loss > self.best_loss
        self.best = where_example(better, self.z, self.best)
        self.best_gradient = where_example(better, self.gradient, self.best_gradient)
        self.best_loss = torch.where(better, loss, self.best_loss)
        if first:
            # As in the authors' code, the loss after the first step is compared with 0.
            self.losses, self.best_at_check = [torch.zeros_like(loss)], loss
        else:
            self.losses.append(loss)

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
