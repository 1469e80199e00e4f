"""Image test examples: the perturbation by an attack, and the predictions of one network of each kind."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from temper.report.figures.style import DIVERGING, VERMILION, WIDEST
from temper.report.records.representatives import RepresentativeRun
from temper.runs.record import load_outcomes, outcomes_path

MAX_IMAGES = 4
LABEL_HEIGHT = 0.26  # height of the text below an image, as a fraction of the image's width


class ImageExamples(NamedTuple):
    """K images with the predictions of one network.

    Attributes:
        title: name of the network.
        attack: name of the attack.
        y: labels, (K,).
        clean, adversarial: images before and after the attack, (K, 1 or 3, H, W) in [0, 1].
        predicted: predicted class, (K,), by "clean" and "adversarial"; an image that is misclassified before the attack keeps
            its prediction, see `Outcomes`.
        probability: probability of the true class, (K,), by "clean" and "adversarial".
    """

    title: str
    attack: str
    y: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    predicted: dict[str, np.ndarray]
    probability: dict[str, np.ndarray]


def kept_images(runs: Sequence[RepresentativeRun], suites: Sequence[str], checkpoint: str) -> list[ImageExamples]:
    """Return the images that the evaluations of these runs kept, under the attack that left the lowest accuracy.

    Args:
        runs: one run of each kind; runs on other data than images are left out.
        suites: key of each run's evaluation.
        checkpoint: evaluated checkpoint.
    """
    examples = []
    for run, suite in zip(runs, suites, strict=True):
        if outcomes_path(run.folder, suite, checkpoint).is_file():
            arrays = load_outcomes(run.folder, suite, checkpoint)
            metrics = run.record.evaluations[suite]["checkpoints"][checkpoint]["metrics"]
            attacks = [name for name in run.record.attacks(suite) if _has_images(arrays, name)]
            if attacks:
                examples.append(_examples(run.title, arrays, min(attacks, key=lambda name: metrics[f"test/{name}"])))
    return examples


def _has_images(arrays: Mapping[str, np.ndarray], attack: str) -> bool:
    """Return True if the points of an attack were kept and are images."""
    clean, points = arrays.get("examples/clean"), arrays.get(f"examples/{attack}")
    if clean is None or points is None or clean.shape != points.shape:
        return False
    return clean.ndim == 4 and clean.shape[1] in (1, 3) and clean.min() >= 0 and clean.max() <= 1


def _examples(title: str, arrays: Mapping[str, np.ndarray], attack: str) -> ImageExamples:
    kept = len(arrays["examples"])
    chosen = np.arange(min(MAX_IMAGES, kept)) * kept // min(MAX_IMAGES, kept)  # evenly spaced
    rows = arrays["examples"][chosen]
    names = {"clean": "clean", "adversarial": attack}
    return ImageExamples(
        title,
        attack,
        arrays["y"][rows],
        arrays["examples/clean"][chosen],
        arrays[f"examples/{attack}"][chosen],
        {state: arrays[f"{name}_prediction"][rows] for state, name in names.items()},
        # Cross-entropy is minus the logarithm of the true class's probability.
        {state: np.exp(-arrays[f"{name}_loss"][rows].astype(float)) for state, name in names.items()},
    )


def examples(networks: Sequence[ImageExamples]) -> Figure:
    """Draw a row for each image: the image, then for each network the perturbation and the perturbed image.

    Below each picture are the class predicted before or after the attack and the probability of the true class.
    """
    rows, columns = max(len(network.y) for network in networks), 1 + 2 * len(networks)
    aspect = networks[0].clean.shape[2] / networks[0].clean.shape[3]
    step = aspect + LABEL_HEIGHT
    size = min(WIDEST / columns, 1.1)  # inches of an image with its margin
    figure = Figure(figsize=(size * columns, size * (rows * step + 0.8) + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows * step - aspect / 2, -aspect / 2)
    axes.axis("off")
    largest = max(float(np.abs(network.adversarial - network.clean).max()) for network in networks) or 1.0
    for row, label in enumerate(networks[0].y):
        _draw_image(axes, networks[0].clean[row], 0, row * step)
        _draw_label(axes, f"label {label}", 0, row * step + aspect / 2)
    _draw_heading(axes, "image", 0, -aspect / 2)
    for place, network in enumerate(networks):
        left = 1 + 2 * place
        _draw_heading(axes, f"{network.title}\nunder {network.attack}", left + 0.5, -aspect / 2)
        for row in range(len(network.y)):
            _draw_change(axes, network.adversarial[row] - network.clean[row], largest, left, row * step)
            _draw_image(axes, network.adversarial[row], left + 1, row * step)
            for x, state in ((left, "clean"), (left + 1, "adversarial")):
                predicted, probability = network.predicted[state][row], network.probability[state][row]
                correct = predicted == network.y[row]
                when, sign = "before" if state == "clean" else "after", "✓" if correct else "✗"
                text = f"{when}: {predicted} {sign} {100 * probability:.0f} %"
                _draw_label(axes, text, x, row * step + aspect / 2, correct=correct)
    if networks[0].clean.shape[1] == 1:
        bar = figure.colorbar(
            ScalarMappable(Normalize(-largest, largest), DIVERGING), ax=axes, location="bottom", shrink=0.3, aspect=25, pad=0.01
        )
        bar.set_label("pixel change (pixel values in [0, 1])", fontsize=7.5)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    note = "before, after: predicted class without and with the perturbation, and probability of the true class"
    figure.supxlabel(note, fontsize=7.5)
    return figure


def _draw_image(axes: Axes, image: np.ndarray, x: float, y: float) -> None:
    """Draw an image, (1 or 3, H, W) in [0, 1], centered at (x, y)."""
    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1} if len(image) == 1 else {}
    _draw_pixels(axes, image.transpose(1, 2, 0).squeeze(), x, y, **gray)


def _draw_change(axes: Axes, delta: np.ndarray, largest: float, x: float, y: float) -> None:
    """Draw a perturbation, (1 or 3, H, W): darker where a pixel decreased, lighter where it increased, per channel."""
    if len(delta) == 1:
        _draw_pixels(axes, delta[0], x, y, cmap=DIVERGING, vmin=-largest, vmax=largest)
    else:
        _draw_pixels(axes, (0.5 + delta / (2 * largest)).transpose(1, 2, 0).clip(0, 1), x, y)


def _draw_pixels(axes: Axes, pixels: np.ndarray, x: float, y: float, **colors: Any) -> None:
    half, tall = 0.46, 0.46 * pixels.shape[0] / pixels.shape[1]
    axes.imshow(pixels, extent=(x - half, x + half, y + tall, y - tall), interpolation="nearest", aspect="equal", **colors)


def _draw_label(axes: Axes, text: str, x: float, y: float, *, correct: bool = True) -> None:
    style: dict[str, Any] = {} if correct else {"color": VERMILION, "weight": "bold"}
    axes.text(x, y, text, ha="center", va="top", fontsize=6.5, **style)


def _draw_heading(axes: Axes, text: str, x: float, y: float) -> None:
    axes.text(x, y, text, ha="center", va="bottom", fontsize=7.5)
