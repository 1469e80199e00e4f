"""An attack on one image, step by step."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from temper.report.figures.style import COLORS, DIVERGING, VERMILION, WIDEST

RIGHT = COLORS[0]


def filmstrip(points: Tensor, logits: Tensor, y: int) -> Figure:
    """A column for each point: the image, what was changed of it, and the probability of every class; below, the cross-entropy
    with the label, and the class that the image is taken for.

    Args:
        points: the image and what each step made of it, (S + 1, 1 or 3, H, W) in [0, 1].
        logits: what the network says of each, (S + 1, C).
        y: the label.
    """
    count, classes = logits.shape
    images, probabilities = points.numpy(), logits.float().softmax(1).numpy()
    loss = F.cross_entropy(logits.float(), torch.full((count,), y), reduction="none")
    deltas = images - images[0]
    largest = float(np.abs(deltas).max()) or 1.0
    size = min(1.0, WIDEST / count)  # inches of a column
    tall = images.shape[2] / images.shape[3]
    figure = Figure(figsize=(size * count + 0.5, size * (2 * tall + 1) + 0.8), layout="constrained")
    rows = figure.subplots(3, count, squeeze=False, sharey="row", height_ratios=[tall, tall, 1])
    for step, (picture, change, bars) in enumerate(rows.T):
        picture.set_title(f"step {step}" if step else "before", fontsize=8)
        _show(picture, images[step], "gray")
        # Of colour images, channel by channel.
        _show(change, 0.5 + deltas[step] / (2 * largest), DIVERGING)
        taken = int(logits[step].argmax())
        bars.bar(range(classes), probabilities[step], color="0.75")
        bars.bar(y, probabilities[step, y], color=RIGHT)
        if taken != y:
            bars.bar(taken, probabilities[step, taken], color=VERMILION, hatch="////", edgecolor="white", linewidth=0)
        bars.set_xticks(sorted({y, taken}))
        bars.set_ylim(0, 1)
        bars.tick_params(labelsize=7, length=2)
        bars.grid(False, axis="x")
        bars.set_xlabel(f"loss {loss[step]:.2f}\n{taken} {'✓' if taken == y else '✗'}", fontsize=7.5)
    for panel, said in zip(rows[:, 0], ("image", f"change, ±{largest:.3g}", "probability"), strict=True):
        panel.set_ylabel(said, fontsize=7.5)
    return figure


def _show(panel: Axes, image: np.ndarray, colors: object) -> None:
    """An image, (1 or 3, H, W) in [0, 1]; those of one channel in these colours."""
    panel.imshow(image.transpose(1, 2, 0), cmap=colors, vmin=0, vmax=1, interpolation="nearest")  # type: ignore[arg-type]
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(False)
    panel.spines[:].set_visible(False)
