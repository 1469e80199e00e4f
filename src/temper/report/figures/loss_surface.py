"""The loss around a point: smooth where a network was hardened, steep where it was not."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from temper.attacks import PGD, Threat, probing
from temper.config.instantiate import build
from temper.data import Batch, DataModule
from temper.data.loading import build_data
from temper.models import Network
from temper.report.figures.style import SEQUENTIAL, VERMILION, WIDEST, legend, sample
from temper.report.records.representatives import Pick
from temper.runs.seeding import generator
from temper.training.modules import load

SIDE = 41  # points along each axis
REACH = 2.0  # how far the plane goes, in eps
AFFORDABLE = 2e11  # floating point operations of all planes together: some seconds of one core
BOUNDARY = VERMILION


class Surface(NamedTuple):
    """The loss of one network in a plane around one test example.

    Attributes:
        title: of the network.
        label: of the example.
        radius: coordinates along both axes, (SIDE,), in eps.
        loss: cross-entropy, (SIDE, SIDE): rows along the random direction, columns along the adversarial one.
        margin: logit of the true class minus the largest of the others, (SIDE, SIDE): below 0 a point is misclassified.
    """

    title: str
    label: int
    radius: np.ndarray
    loss: np.ndarray
    margin: np.ndarray


def surfaces(picks: Sequence[Pick], suites: Sequence[str], checkpoint: str) -> list[Surface]:
    """The same test example for every network whose checkpoint is kept: the first one that all of them know. None where
    networks are too large for a plane in seconds.

    Args:
        suites: of each run, the key of the evaluation whose threat is the unit of both axes.
    """
    kept = [(pick, key) for pick, key in zip(picks, suites, strict=True) if pick.checkpoint(checkpoint).is_file()]
    if not kept:
        return []
    networks = [load(pick.checkpoint(checkpoint))[0].net for pick, _ in kept]
    batch = next(iter(_data(kept[0][0]).loader("test", batch_size=100)))
    if SIDE**2 * sum(_operations(net, batch.x[:1]) for net in networks) > AFFORDABLE:
        return []
    with torch.no_grad():
        known = torch.stack([net(batch.x).argmax(1) == batch.y for net in networks]).all(0)
    row = known.int().argmax().reshape(1)
    return [
        loss_around(pick.title, net, _threat(pick, key), batch.select(row))
        for (pick, key), net in zip(kept, networks, strict=True)
    ]


def _data(pick: Pick) -> DataModule:
    """The data of a run, as far as it lies here: a report fetches nothing."""
    config = OmegaConf.create(pick.record.config)
    if "download" in config.data.source:
        config.data.source.download = False
    return build_data(config)


def _threat(pick: Pick, suite: str) -> Threat:
    config = OmegaConf.create(pick.record.config)
    config.evaluation = OmegaConf.create(pick.record.evaluations[suite]["suite"])
    threat: Threat = build(config, "evaluation.threat")
    return threat


def _operations(net: Network, x: Tensor) -> int:
    """Floating point operations of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    return counter.get_total_flops()


def loss_around(title: str, net: Network, threat: Threat, batch: Batch) -> Surface:
    """The loss at x + a * adversarial + b * random, both directions of length eps in the threat's norm and orthogonal; the
    valid range of inputs is left out of account, so that the plane is one."""
    adversarial, random = directions(net, threat, batch)
    radius = torch.linspace(-REACH, REACH, SIDE)
    with probing(net, "eval"), torch.no_grad():
        z = net.lift(batch.x)
        lines = [net(z + radius.reshape(-1, *[1] * (z.ndim - 1)) * adversarial + b * random).float() for b in radius]
        logits = torch.cat(lines)
        loss = F.cross_entropy(logits, batch.y.expand(len(logits)), reduction="none")
        others = logits.clone()
        others[:, batch.y] = -torch.inf
        margin = logits[:, int(batch.y)] - others.amax(1)
    return Surface(title, int(batch.y), radius.numpy(), *(values.reshape(SIDE, SIDE).numpy() for values in (loss, margin)))


def directions(net: Network, threat: Threat, batch: Batch) -> tuple[Tensor, Tensor]:
    """Where PGD goes from the one example of a batch, and a random direction orthogonal to it, (1, ...), both of length eps in
    the threat's norm."""
    z = net.lift(batch.x).detach()
    ahead = PGD(threat=threat, steps=20, start="zero").perturb(net, batch) - z
    signs = 2.0 * torch.randint(2, z.shape, generator=generator(0, "loss surface")) - 1
    signs = signs if batch.mask is None else signs * batch.mask
    aside = signs - ahead * (signs * ahead).sum() / (ahead * ahead).sum().clamp_min(1e-12)
    return tuple(threat.eps * one / threat.length(one).clamp_min(1e-12) for one in (ahead, aside))  # type: ignore[return-value]


def surface(shown: Sequence[Surface]) -> Figure:
    """A panel for each network, all in the same colours; beyond the line the class is another one."""
    size = min(2.0, (WIDEST - 1.0) / len(shown))
    figure = Figure(figsize=(size * len(shown) + 1.2, size + 1.0), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    most = max(float(one.loss.max()) for one in shown)
    levels = MaxNLocator(12).tick_values(0, most or 1.0)
    for panel, one in zip(panels, shown, strict=True):
        filled = panel.contourf(one.radius, one.radius, one.loss, levels=levels, cmap=SEQUENTIAL)
        if one.margin.min() < 0 < one.margin.max():
            panel.contour(one.radius, one.radius, one.margin, levels=[0], colors=BOUNDARY, linewidths=1.4)
        panel.plot(0, 0, "o", color="black", markersize=4.5)
        panel.plot(1, 0, "X", color="black", markersize=5)
        panel.set_aspect("equal")
        panel.grid(False)
        panel.set_title(one.title, fontsize=8)
        panel.set_xlabel("adversarial direction, in eps", fontsize=8)
    panels[0].set_ylabel("random direction, in eps", fontsize=8)
    figure.colorbar(filled, ax=panels, label="cross-entropy", aspect=20)
    legend(
        figure,
        [
            sample(f"test example, label {shown[0].label}", color="black", marker="o", linestyle="", markersize=4.5),
            sample("adversarial point", color="black", marker="X", linestyle="", markersize=5),
            sample("decision boundary", color=BOUNDARY, linewidth=1.4),
        ],
        columns=3,
    )
    return figure
