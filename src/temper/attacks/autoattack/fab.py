"""FAB: the shortest way across the decision boundary, from one linear approximation of it to the next."""

import torch
from torch import Tensor

from temper.attacks.ascent import where_example
from temper.attacks.autoattack.batch_filling import Found, Runs, undecided
from temper.attacks.gradient_step import input_gradient
from temper.attacks.losses import View
from temper.attacks.network_state import Mode
from temper.attacks.threat import Threat, per_example
from temper.config.types import Count, Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network

# As published: how far each step goes beyond the plane, how far a point on the other side is taken back to the input, and how
# much the step from the input itself may count.
OVERSHOOT, BACKWARD, BIAS = 1.05, 0.9, 0.1
TINY = 1e-30  # no division by 0
CHECKED_EVERY = 10  # steps: looking for what has fallen waits for the device


class FAB(Runs):
    """Croce & Hein 2020 (https://arxiv.org/abs/1907.02044), algorithm 1, towards each of the likeliest other classes.

    It looks for the nearest misclassified point, whatever the radius; here a point inside the threat set is enough, and an
    example that has one is dropped at the next look. Where there is none, the input itself is returned. As in AutoAttack, there
    is no random start and no final line search. Nothing is drawn at random.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's.
        steps: linear approximations for each target.
        targets: classes that are tried, the likeliest first.
        mode: of the network while it is attacked.
    """

    @checked
    def __init__(
        self, *, threat: Threat, eps: Positive | None = None, steps: Count = 100, targets: Count = 9, mode: Mode = "eval"
    ) -> None:
        super().__init__(threat=threat.at(eps), runs=targets, targeted=True, mode=mode)
        self.steps = steps

    def run(self, net: Network, batch: Batch, z: Tensor, target: Tensor | None) -> Found:
        assert target is not None
        found, rows = Found.nothing(z), torch.arange(len(z), device=z.device)
        own = Found.nothing(z)
        x = z
        for step in range(self.steps):
            x = self._step(net, batch, target, x, z)
            with torch.no_grad():
                wrong = net(x).argmax(1) != batch.y
            distance = self.threat.length(x - z)
            better = wrong & (distance <= self.threat.eps) & (-distance > own.loss)
            own = Found(where_example(better, x, own.z), torch.where(better, -distance, own.loss), own.fooled | better)
            x = where_example(wrong, z + BACKWARD * (x - z), x)
            if (step + 1) % CHECKED_EVERY == 0:
                left = undecided(own.fooled, batch.index)
                if len(left) < len(rows):
                    found.put(rows, own)
                    rows, batch, target = rows[left], batch.select(left), target[left]
                    own, x, z = own.only(left), x[left], z[left]
                if len(left) == 0:
                    return found
        found.put(rows, own)
        return found

    def _step(self, net: Network, batch: Batch, target: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """Across the plane where label and target are level, from the last point and, with less weight, from the input."""

        def lead(x: Tensor) -> View:
            logits = net(x).float()
            pair = logits.gather(1, torch.stack([batch.y, target], dim=1))
            return View(pair[:, 0] - pair[:, 1], logits)

        w, seen = input_gradient(lead, x)
        if batch.mask is not None:
            w = w * batch.mask
        at_z = seen.loss + (w * (z - x)).flatten(1).sum(1)
        # Both at once: rows are independent.
        threat = self.threat.on(batch)
        both = to_plane(torch.cat([x, z]), torch.cat([w, w]), torch.cat([seen.loss, at_z]), threat)
        size = threat.length(both).clamp_min(1e-8)
        from_x, from_z = both.chunk(2)
        size_x, size_z = size.chunk(2)
        share = per_example((size_x / (size_x + size_z)).clamp_max(BIAS), x)
        moved = (1 - share) * (x - z + OVERSHOOT * from_x) + share * OVERSHOOT * from_z
        return (z + moved).clamp(threat.lower, threat.upper)


def to_plane(x: Tensor, w: Tensor, value: Tensor, threat: Threat) -> Tensor:
    """The shortest step in the threat's norm from x, inside the valid range, to where a linear function is 0, (B, ...).

    Croce & Hein 2020, section 2.1 and appendix A. Where the range ends before, the step goes as far as it allows.

    Args:
        w: the function's gradient, (B, ...).
        value: the function at x, (B,).
    """
    towards = -w * per_example(value.sign(), w)
    slope, rest = w.abs().flatten(1), value.abs()[:, None]
    room = torch.where(towards > 0, threat.upper - x, x - threat.lower).flatten(1)
    # No value needs to go further than would be enough by itself, so that a range without an end is none here.
    room = torch.minimum(room, rest / slope.clamp_min(TINY)).masked_fill(slope == 0, 0)
    if threat.norm == "l1":
        # The steepest values go first, each as far as it can.
        order = slope.argsort(dim=1, descending=True)
        gain = (slope * room).gather(1, order)
        used = ((rest - gain.cumsum(1) + gain) / gain.clamp_min(TINY)).clamp(0, 1)
        size = room * torch.zeros_like(gain).scatter(1, order, used)
    else:
        pace = slope if threat.norm == "l2" else torch.ones_like(slope)
        size = torch.minimum(_time(slope, pace, room, rest) * pace, room)
    return size.view_as(x).copysign(towards)


def _time(slope: Tensor, pace: Tensor, room: Tensor, rest: Tensor) -> Tensor:
    """When values that move by t * pace until they meet the end of their range have gained `rest` together, t as (B, 1).

    The gain is concave and piecewise linear in t, so that Newton's method from below meets no corner twice and ends exactly.
    Sorting the corners, as the paper does, takes longer than that.
    """
    corner, speed, most = room / pace.clamp_min(TINY), slope * pace, slope * room
    whole = most.sum(1, keepdim=True)
    t, before = rest / speed.sum(1, keepdim=True).clamp_min(TINY), torch.zeros_like(rest)
    while bool((t > before).any()):
        moving = (corner > t).to(slope.dtype)
        stopped = whole - (most * moving).sum(1, keepdim=True)
        t, before = (rest - stopped) / (speed * moving).sum(1, keepdim=True).clamp_min(TINY), t
        t = torch.maximum(t, before)
    return t
