"""Square: random search that asks the network for its logits alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from temper.arguments import Count, Positive, Probability, checked
from temper.attacks.ascent import where_example
from temper.attacks.attack import Attack
from temper.attacks.losses import margin
from temper.attacks.probing import probing
from temper.attacks.threat import Threat, per_example
from temper.data.batch import Batch
from temper.models.network import Network

# Queries, as published for 10,000 of them, after which the changed share of the input is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


class Square(Attack):
    """Andriushchenko et al. 2020 (https://arxiv.org/abs/1912.00049): random changes that lower the margin are kept.

    A gradient that is masked misleads every attack but this kind. On images, (B, C, H, W), a square window is changed at a
    time, each channel in one direction; on other inputs a random set of features. Under linf a change is +eps or -eps. Under l2
    and l1 the window takes over the budget of a second one, a pair of bumps added to it, after the paper's construction for l2.

    Args:
        threat: the set that x' stays in.
        eps: another radius than the threat's.
        queries: forward passes for each example that stands.
        share: of the input that is changed at first.
    """

    @checked
    def __init__(self, *, threat: Threat, eps: Positive | None = None, queries: Count = 5000, share: Probability = 0.8) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        self.queries, self.share = queries, share

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, "eval"), torch.no_grad():
            z = net.lift(batch.x).detach()
            result = z.clone()
            rows = torch.arange(len(z), device=z.device)
            y, centre = batch.y, z
            mask = None if batch.mask is None else batch.mask.expand_as(z)
            x_adv, lowest = z, margin(net(z).float(), y)
            for query in range(self.queries):
                if query % 50 == 0:
                    # What has fallen is dropped now and then, since looking for it waits for the device.
                    keep = (lowest < 0).nonzero().squeeze(1)
                    result[rows] = x_adv
                    if len(keep) == 0:
                        break
                    rows, y, centre, x_adv, lowest = rows[keep], y[keep], centre[keep], x_adv[keep], lowest[keep]
                    mask = None if mask is None else mask[keep]
                delta = self._stripes(x_adv) if query == 0 else self._changed(x_adv - centre, query)
                proposed = self.threat.project(centre + (delta if mask is None else delta * mask), centre)
                loss = margin(net(proposed).float(), y)
                better = (loss > lowest) & (lowest < 0)
                x_adv = where_example(better, proposed, x_adv)
                lowest = torch.where(better, loss, lowest)
            result[rows] = x_adv
            return self.threat.finish(result, z)

    def _stripes(self, z: Tensor) -> Tensor:
        """The start: vertical stripes of random sign, each channel its own, as long as the radius allows."""
        shape = (*z.shape[:2], 1, z.shape[3]) if z.ndim == 4 else z.shape
        return self._full(_signs(shape, z).expand_as(z))

    def _full(self, signs: Tensor) -> Tensor:
        return signs * per_example(self.threat.eps / self.threat.length(signs), signs)

    def _changed(self, delta: Tensor, query: int) -> Tensor:
        share = self.share / 2 ** sum(query > halving for halving in HALVINGS)
        window = _window(delta, share)
        signs = _signs((*delta.shape[:2], 1, 1) if delta.ndim == 4 else delta.shape, delta)
        if self.threat.norm == "linf":
            return torch.where(window, self.threat.eps * signs, delta)
        power = {"l1": 1, "l2": 2}[self.threat.norm]
        rest = delta.masked_fill(window | _window(delta, share), 0)
        budget = (self.threat.eps**power - self.threat.length(rest) ** power).clamp_min(0) ** (1 / power)
        # What stands in the window goes on, bent by a new pattern as long as itself.
        old = delta.masked_fill(~window, 0)
        new = self._unit(old) + self._unit(_bumps(window) * signs)
        return rest + self._unit(new) * per_example(budget, delta)

    def _unit(self, delta: Tensor) -> Tensor:
        return delta / per_example(self.threat.length(delta).clamp_min(1e-12), delta)


def _bumps(window: Tensor) -> Tensor:
    """Two bumps of opposite sign side by side in the window of an image, as in the paper; else random sizes."""
    if window.ndim != 4:
        return torch.randn(window.shape, device=window.device) * window
    rows, columns = (window[0, 0].any(axis).nonzero().squeeze(1) for axis in (1, 0))
    side = len(rows)
    y, x = torch.meshgrid(*[torch.arange(side, device=window.device) + 0.5] * 2, indexing="ij")
    bumps = torch.where(y < side / 2, 1.0, -1.0) / (1 + (x - side / 2).abs() + ((y % (side / 2)) - side / 4).abs()) ** 2
    whole = torch.zeros(window.shape[2:], device=window.device)
    whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = bumps if _random(1) else bumps.T
    return whole.expand_as(window)


def _window(like: Tensor, share: float) -> Tensor:
    """Where a change goes, (1 or B, ...) bool: a square over all channels of an image, else a random set of features."""
    if like.ndim == 4:
        height, width = like.shape[2:]
        side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
        window = torch.zeros(1, 1, height, width, dtype=torch.bool, device=like.device)
        top, left = _random(height - side), _random(width - side)
        window[..., top : top + side, left : left + side] = True
        return window.expand(1, *like.shape[1:])
    features = like[0].numel()
    count = max(round(share * features), 1)
    chosen = torch.rand(len(like), features, device=like.device).topk(count, dim=1).indices
    return torch.zeros(len(like), features, dtype=torch.bool, device=like.device).scatter(1, chosen, True).view_as(like)


def _random(most: int) -> int:
    return int(torch.randint(most + 1, ()))


def _signs(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.randint(2, tuple(shape), device=like.device, dtype=like.dtype) * 2 - 1
