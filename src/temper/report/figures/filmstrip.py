"""An attack on one image, step by step."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from temper.report.figures.style import COLORS, DIVERGING, VERMILION, WIDEST

CORRECT = COLORS[0]


def filmstrip(points: Tensor, logits: Tensor, y: int) -> Figure:
    """Draw a column for each step: the image, its perturbation, and the probability of every class.

    Below each column are the cross-entropy with the label and the predicted class.

    Args:
        points: the image before the attack and after each of S steps, (S + 1, 1 or 3, H, W) in [0, 1].
        logits: logits of the network at each point, (S + 1, C).
        y: the label.
    """
    count, classes = logits.shape
    images, probabilities = points.numpy(), logits.float().softmax(1).numpy()
    loss = F.cross_entropy(logits.float(), torch.full((count,), y), reduction="none")
    deltas = images - images[0]
    largest = float(np.abs(deltas).max()) or 1.0
    size = min(1.0, WIDEST / count)  # inches of a column
    aspect = images.shape[2] / images.shape[3]
    figure = Figure(figsize=(size * count + 0.5, size * (2 * aspect + 1) + 0.8), layout="constrained")
    panels = figure.subplots(3, count, squeeze=False, sharey="row", height_ratios=[aspect, aspect, 1])
    for step, (picture, change, bars) in enumerate(panels.T):
        picture.set_title(f"step {step}" if step else "before", fontsize=8)
        _show(picture, images[step], "gray")
        # The change of a color image is shown channel by channel.
        _show(change, 0.5 + deltas[step] / (2 * largest), DIVERGING)
        predicted = int(logits[step].argmax())
        bars.bar(range(classes), probabilities[step], color="0.75")
        bars.bar(y, probabilities[step, y], color=CORRECT)
        if predicted != y:
            bars.bar(predicted, probabilities[step, predicted], color=VERMILION, hatch="////", edgecolor="white", linewidth=0)
        bars.set_xticks(sorted({y, predicted}))
        bars.set_ylim(0, 1)
        bars.tick_params(labelsize=7, length=2)
        bars.grid(False, axis="x")
        bars.set_xlabel(f"loss {loss[step]:.2f}\n{predicted} {'✓' if predicted == y else '✗'}", fontsize=7.5)
    for panel, label in zip(panels[:, 0], ("image", f"change, ±{largest:.3g}", "probability"), strict=True):
        panel.set_ylabel(label, fontsize=7.5)
    return figure


def _show(panel: Axes, image: np.ndarray, cmap: object) -> None:
    """Draw an image, (1 or 3, H, W) in [0, 1]; the color map applies to images of one channel."""
    panel.imshow(image.transpose(1, 2, 0), cmap=cmap, vmin=0, vmax=1, interpolation="nearest")  # type: ignore[arg-type]
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(False)
    panel.spines[:].set_visible(False)
