"""FAB: shortest path to the decision boundary through a sequence of linear approximations."""

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.autoattack.batch_filling import MultiRunAttack, RunResult, unfooled_rows
from temper.attacks.gradient_step import input_gradient
from temper.attacks.losses import LossOutput
from temper.attacks.network_state import Mode
from temper.attacks.threat import Threat, per_example
from temper.config.types import Count, Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network

# As published: overshoot of each step beyond the hyperplane, contraction of a misclassified point towards the input, and
# largest weight of the step from the input.
OVERSHOOT, BACKWARD, MAX_WEIGHT = 1.05, 0.9, 0.1
TINY = 1e-30  # avoids division by 0
CHECK_EVERY = 10  # steps; dropping fooled examples waits for the device


class FAB(MultiRunAttack):
    """FAB (Croce & Hein 2020, https://arxiv.org/abs/1907.02044), algorithm 1, towards each of the likeliest other classes.

    The paper searches for the nearest misclassified point at any radius. Here a point inside the perturbation set is enough,
    and an example that has one is dropped at the next check. Where there is none, the input itself is returned. As in
    AutoAttack, there is no random start and no final line search. The attack is deterministic.

    Args:
        threat: the perturbation set.
        eps: overrides the radius of `threat`.
        steps: linear approximations for each target class.
        targets: number of target classes, the likeliest first.
        mode: mode of the network during the attack.
    """

    @checked
    def __init__(
        self, *, threat: Threat, eps: Positive | None = None, steps: Count = 100, targets: Count = 9, mode: Mode = "eval"
    ) -> None:
        super().__init__(threat=threat.with_eps(eps), runs=targets, targeted=True, mode=mode)
        self.steps = steps

    def run(self, net: Network, batch: Batch, z: Tensor, target: Tensor | None) -> RunResult:
        assert target is not None
        result, rows = RunResult.empty(z), torch.arange(len(z), device=z.device)
        current = RunResult.empty(z)
        x = z
        for step in range(self.steps):
            x = self._step(net, batch, target, x, z)
            with torch.no_grad():
                wrong = net(x).argmax(1) != batch.y
            distance = self.threat.length(x - z)
            better = wrong & (distance <= self.threat.eps) & (-distance > current.loss)
            current = RunResult(
                where_example(better, x, current.z), torch.where(better, -distance, current.loss), current.fooled | better
            )
            x = where_example(wrong, z + BACKWARD * (x - z), x)
            if (step + 1) % CHECK_EVERY == 0:
                remaining = unfooled_rows(current.fooled, batch.index)
                if len(remaining) < len(rows):
                    result.assign(rows, current)
                    rows, batch, target = rows[remaining], batch.select(remaining), target[remaining]
                    current, x, z = current.select(remaining), x[remaining], z[remaining]
                if len(remaining) == 0:
                    return result
        result.assign(rows, current)
        return result

    def _step(self, net: Network, batch: Batch, target: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """Step across the hyperplane on which the linearized logits of label and target are equal.

        The result combines the step from the last point x with the step from the input z, which has the smaller weight.
        """

        def logit_difference(x: Tensor) -> LossOutput:
            logits = net(x).float()
            pair = logits.gather(1, torch.stack([batch.y, target], dim=1))
            return LossOutput(pair[:, 0] - pair[:, 1], logits)

        w, output = input_gradient(logit_difference, x)
        if batch.mask is not None:
            w = w * batch.mask
        at_z = output.loss + (w * (z - x)).flatten(1).sum(1)
        threat = self.threat.for_batch(batch)
        # Rows are independent, so both steps are computed together.
        steps = step_to_hyperplane(torch.cat([x, z]), torch.cat([w, w]), torch.cat([output.loss, at_z]), threat)
        size_x, size_z = threat.length(steps).clamp_min(1e-8).chunk(2)
        from_x, from_z = steps.chunk(2)
        weight = per_example((size_x / (size_x + size_z)).clamp_max(MAX_WEIGHT), x)
        moved = (1 - weight) * (x - z + OVERSHOOT * from_x) + weight * OVERSHOOT * from_z
        return (z + moved).clamp(threat.lower, threat.upper)


def step_to_hyperplane(x: Tensor, w: Tensor, value: Tensor, threat: Threat) -> Tensor:
    """Return the shortest step in the threat's norm from x to the zero of a linear function, (B, ...), inside the valid range.

    Croce & Hein 2020 (https://arxiv.org/abs/1907.02044), section 2.1 and appendix A. If the zero is outside of the range, the
    step goes as far as the range allows.

    Args:
        x: points, (B, ...).
        w: gradient of the function, (B, ...).
        value: value of the function at x, (B,).
        threat: norm and valid range.
    """
    towards = -w * per_example(value.sign(), w)
    slope, distance = w.abs().flatten(1), value.abs()[:, None]
    room = torch.where(towards > 0, threat.upper - x, x - threat.lower).flatten(1)
    # No value moves further than it would need to on its own, so an infinite range adds no constraint.
    room = torch.minimum(room, distance / slope.clamp_min(TINY)).masked_fill(slope == 0, 0)
    if threat.norm == "l1":
        # The steepest values move first, each as far as it can.
        order = slope.argsort(dim=1, descending=True)
        gain = (slope * room).gather(1, order)
        used = ((distance - gain.cumsum(1) + gain) / gain.clamp_min(TINY)).clamp(0, 1)
        size = room * torch.zeros_like(gain).scatter(1, order, used)
    else:
        pace = slope if threat.norm == "l2" else torch.ones_like(slope)
        size = torch.minimum(_solve_time(slope, pace, room, distance) * pace, room)
    return size.view_as(x).copysign(towards)


def _solve_time(slope: Tensor, pace: Tensor, room: Tensor, distance: Tensor) -> Tensor:
    """Return the time t, (B, 1), at which values that move by min(t * pace, room) have changed the function by `distance`.

    The change is concave and piecewise linear in t, so Newton's method from below passes each breakpoint at most once and ends
    exactly. Sorting the breakpoints, as in the paper, is slower.
    """
    end_time, speed, most = room / pace.clamp_min(TINY), slope * pace, slope * room
    total = most.sum(1, keepdim=True)
    t, before = distance / speed.sum(1, keepdim=True).clamp_min(TINY), torch.zeros_like(distance)
    while bool((t > before).any()):
        moving = (end_time > t).to(slope.dtype)
        stopped = total - (most * moving).sum(1, keepdim=True)
        t, before = (distance - stopped) / (speed * moving).sum(1, keepdim=True).clamp_min(TINY), t
        t = torch.maximum(t, before)
    return t
