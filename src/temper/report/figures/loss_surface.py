"""Loss surface around a test example: smooth for adversarially trained networks, steep for others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from temper.attacks import PGD, Threat, probing
from temper.config.run_config import parse
from temper.data import Batch, DataModule
from temper.data.loading import build_data
from temper.models import Network
from temper.report.figures.style import SEQUENTIAL, VERMILION, WIDEST, legend, legend_entry
from temper.report.records.representatives import RepresentativeRun
from temper.runs.seeding import generator
from temper.training.modules import load

POINTS = 41  # points along each axis
EXTENT = 2.0  # largest coordinate along each axis, in eps
MAX_FLOPS = 2e11  # floating point operations of all planes: a few seconds on one core
BOUNDARY = VERMILION


class Surface(NamedTuple):
    """Loss of one network in a plane around one test example.

    Attributes:
        title: name of the network.
        label: label of the example.
        radius: coordinates along both axes, (P,), in eps.
        loss: cross-entropy, (P, P): rows along the random direction, columns along the adversarial direction.
        margin: logit of the true class minus the largest other logit, (P, P); points with a negative margin are misclassified.
    """

    title: str
    label: int
    radius: np.ndarray
    loss: np.ndarray
    margin: np.ndarray


def surfaces(runs: Sequence[RepresentativeRun], suites: Sequence[str], checkpoint: str) -> list[Surface]:
    """Return the loss surfaces of all networks around the first test example that all of them classify correctly.

    Args:
        runs: one run of each kind; runs without a checkpoint file are left out.
        suites: key of each run's evaluation, whose threat defines the unit of both axes.
        checkpoint: name of the checkpoint.

    Returns:
        One surface per network; none if the networks are too large to evaluate in seconds.
    """
    kept = [(run, key) for run, key in zip(runs, suites, strict=True) if run.checkpoint(checkpoint).is_file()]
    if not kept:
        return []
    networks = [load(run.checkpoint(checkpoint))[0].net for run, _ in kept]
    batch = next(iter(_data(kept[0][0]).loader("test", batch_size=100)))
    if POINTS**2 * sum(_flops(net, batch.x[:1]) for net in networks) > MAX_FLOPS:
        return []
    with torch.no_grad():
        correct = torch.stack([net(batch.x).argmax(1) == batch.y for net in networks]).all(0)
    row = correct.int().argmax().reshape(1)
    return [
        loss_around(run.title, net, _threat(run, key), batch.select(row))
        for (run, key), net in zip(kept, networks, strict=True)
    ]


def _data(run: RepresentativeRun) -> DataModule:
    """Load the data of a run from disk; a report downloads nothing."""
    config = parse(run.record.config)
    if "download" in config.data.source:
        source = config.data.source.with_arguments(download=False)
        config = config.replace(data=config.data.with_arguments(source=source))
    return build_data(config)


def _threat(run: RepresentativeRun, suite: str) -> Threat:
    config = parse(run.record.config).with_suite(run.record.evaluations[suite]["suite"])
    threat: Threat = config.evaluation.threat.build()
    return threat


def _flops(net: Network, x: Tensor) -> int:
    """Return the number of floating point operations of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    return counter.get_total_flops()


def loss_around(title: str, net: Network, threat: Threat, batch: Batch) -> Surface:
    """Return the loss at x + a * adversarial + b * random, for coordinates a and b.

    Both directions have length eps in the threat's norm and are orthogonal. The plane is not clipped to the valid range of
    inputs.

    Args:
        title: name of the network.
        net: the network.
        threat: threat that defines eps and its norm.
        batch: one example.
    """
    adversarial, random = directions(net, threat, batch)
    radius = torch.linspace(-EXTENT, EXTENT, POINTS)
    with probing(net, "eval"), torch.no_grad():
        z = net.lift(batch.x)
        lines = [net(z + radius.reshape(-1, *[1] * (z.ndim - 1)) * adversarial + b * random).float() for b in radius]
        logits = torch.cat(lines)
        loss = F.cross_entropy(logits, batch.y.expand(len(logits)), reduction="none")
        others = logits.clone()
        others[:, batch.y] = -torch.inf
        margin = logits[:, int(batch.y)] - others.amax(1)
    return Surface(title, int(batch.y), radius.numpy(), *(values.reshape(POINTS, POINTS).numpy() for values in (loss, margin)))


def directions(net: Network, threat: Threat, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the direction of a PGD attack and a random orthogonal one, (1, ...), both of length eps in the threat's norm.

    Args:
        net: the network.
        threat: threat that defines eps and its norm.
        batch: one example.
    """
    z = net.lift(batch.x).detach()
    adversarial = PGD(threat=threat, steps=20, start="zero").perturb(net, batch) - z
    signs = 2.0 * torch.randint(2, z.shape, generator=generator(0, "loss surface")) - 1
    signs = signs if batch.mask is None else signs * batch.mask
    random = signs - adversarial * (signs * adversarial).sum() / (adversarial * adversarial).sum().clamp_min(1e-12)
    return tuple(threat.eps * d / threat.length(d).clamp_min(1e-12) for d in (adversarial, random))  # type: ignore[return-value]


def surface(networks: Sequence[Surface]) -> Figure:
    """Draw a panel for each network with a shared color scale, and the decision boundary of the true class."""
    size = min(2.0, (WIDEST - 1.0) / len(networks))
    figure = Figure(figsize=(size * len(networks) + 1.2, size + 1.0), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
    highest = max(float(network.loss.max()) for network in networks)
    levels = MaxNLocator(12).tick_values(0, highest or 1.0)
    for panel, network in zip(panels, networks, strict=True):
        filled = panel.contourf(network.radius, network.radius, network.loss, levels=levels, cmap=SEQUENTIAL)
        if network.margin.min() < 0 < network.margin.max():
            panel.contour(network.radius, network.radius, network.margin, levels=[0], colors=BOUNDARY, linewidths=1.4)
        panel.plot(0, 0, "o", color="black", markersize=4.5)
        panel.plot(1, 0, "X", color="black", markersize=5)
        panel.set_aspect("equal")
        panel.grid(False)
        panel.set_title(network.title, fontsize=8)
        panel.set_xlabel("adversarial direction (eps)", fontsize=8)
    panels[0].set_ylabel("random direction (eps)", fontsize=8)
    figure.colorbar(filled, ax=panels, label="cross-entropy", aspect=20)
    legend(
        figure,
        [
            legend_entry(f"test example, label {networks[0].label}", color="black", marker="o", linestyle="", markersize=4.5),
            legend_entry("adversarial point", color="black", marker="X", linestyle="", markersize=5),
            legend_entry("decision boundary", color=BOUNDARY, linewidth=1.4),
        ],
        columns=3,
    )
    return figure
