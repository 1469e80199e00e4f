"""What an attack does to an image, and what each kind of network takes it for."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from temper.report.figures.style import DIVERGING, VERMILION, WIDEST
from temper.report.records.representatives import Pick
from temper.runs.record import outcomes_file, outcomes_path

SHOWN = 4  # images
LABEL = 0.26  # of an image's width: room for the words below it


class Example(NamedTuple):
    """K images as one network sees them.

    Attributes:
        title: of the network.
        attack: that changed them.
        y: labels, (K,).
        clean, adversarial: (K, 1 or 3, H, W) in [0, 1].
        predicted, probability: by "clean" and "adversarial", the class that each is taken for (what is wrong already keeps its
            class, see `Outcomes`), and the probability of the true class, (K,).
    """

    title: str
    attack: str
    y: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    predicted: dict[str, np.ndarray]
    probability: dict[str, np.ndarray]


def kept_examples(picks: Sequence[Pick], suites: Sequence[str], checkpoint: str) -> list[Example]:
    """What the evaluations of these runs kept, under the attack that left the least accuracy; inputs that are no images are
    left out.

    Args:
        suites: of each run, the key of the evaluation.
    """
    found = []
    for pick, suite in zip(picks, suites, strict=True):
        if outcomes_path(pick.folder, suite, checkpoint).is_file():
            arrays = outcomes_file(pick.folder, suite, checkpoint)
            metrics = pick.record.evaluations[suite]["checkpoints"][checkpoint]["metrics"]
            attacks = [name for name in pick.record.attacks(suite) if _comparable(arrays, name)]
            if attacks:
                found.append(_example(pick.title, arrays, min(attacks, key=lambda name: metrics[f"test/{name}"])))
    return found


def _comparable(arrays: Mapping[str, np.ndarray], attack: str) -> bool:
    """Whether the points of an attack were kept, and are images like those that it changed."""
    clean, points = arrays.get("examples/clean"), arrays.get(f"examples/{attack}")
    if clean is None or points is None or clean.shape != points.shape:
        return False
    return clean.ndim == 4 and clean.shape[1] in (1, 3) and clean.min() >= 0 and clean.max() <= 1


def _example(title: str, arrays: Mapping[str, np.ndarray], attack: str) -> Example:
    kept = len(arrays["examples"])
    chosen = np.arange(min(SHOWN, kept)) * kept // min(SHOWN, kept)  # spread evenly over what was kept
    rows = arrays["examples"][chosen]
    names = {"clean": "clean", "adversarial": attack}
    return Example(
        title,
        attack,
        arrays["y"][rows],
        arrays["examples/clean"][chosen],
        arrays[f"examples/{attack}"][chosen],
        {state: arrays[f"{name}_prediction"][rows] for state, name in names.items()},
        # Cross-entropy is minus the logarithm of this.
        {state: np.exp(-arrays[f"{name}_loss"][rows].astype(float)) for state, name in names.items()},
    )


def examples(shown: Sequence[Example]) -> Figure:
    """A row for each image: as it is, then for each network what its attack changed, and what came of it. Below, what it is
    taken for before and after the attack, and the probability that the network gives the true class."""
    rows, columns = max(len(one.y) for one in shown), 1 + 2 * len(shown)
    tall = shown[0].clean.shape[2] / shown[0].clean.shape[3]
    step = tall + LABEL
    size = min(WIDEST / columns, 1.1)  # inches of an image with the gap beside it
    figure = Figure(figsize=(size * columns, size * (rows * step + 0.8) + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows * step - tall / 2, -tall / 2)
    axes.axis("off")
    largest = max(float(np.abs(one.adversarial - one.clean).max()) for one in shown) or 1.0
    for row, label in enumerate(shown[0].y):
        _picture(axes, shown[0].clean[row], 0, row * step)
        _words(axes, f"label {label}", 0, row * step + tall / 2)
    _heading(axes, "image", 0, -tall / 2)
    for place, one in enumerate(shown):
        left = 1 + 2 * place
        _heading(axes, f"{one.title}\nunder {one.attack}", left + 0.5, -tall / 2)
        for row in range(len(one.y)):
            _change(axes, one.adversarial[row] - one.clean[row], largest, left, row * step)
            _picture(axes, one.adversarial[row], left + 1, row * step)
            for x, state in ((left, "clean"), (left + 1, "adversarial")):
                predicted, probability = one.predicted[state][row], one.probability[state][row]
                right = predicted == one.y[row]
                when, sign = "before" if state == "clean" else "after", "✓" if right else "✗"
                said = f"{when}: {predicted} {sign} {100 * probability:.0f} %"
                _words(axes, said, x, row * step + tall / 2, right=right)
    if shown[0].clean.shape[1] == 1:
        bar = figure.colorbar(
            ScalarMappable(Normalize(-largest, largest), DIVERGING), ax=axes, location="bottom", shrink=0.3, aspect=25, pad=0.01
        )
        bar.set_label("change of a pixel, whose values range from 0 to 1", fontsize=7.5)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    about = "before, after: the class that an image is taken for without and with the change, and the true one's probability"
    figure.supxlabel(about, fontsize=7.5)
    return figure


def _picture(axes: Axes, image: np.ndarray, x: float, y: float) -> None:
    """An image, (1 or 3, H, W) in [0, 1], around a place."""
    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1} if len(image) == 1 else {}
    _place(axes, image.transpose(1, 2, 0).squeeze(), x, y, **gray)


def _change(axes: Axes, delta: np.ndarray, largest: float, x: float, y: float) -> None:
    """A perturbation, (1 or 3, H, W): dark where a pixel lost, light where it gained; of colour images channel by channel."""
    if len(delta) == 1:
        _place(axes, delta[0], x, y, cmap=DIVERGING, vmin=-largest, vmax=largest)
    else:
        _place(axes, (0.5 + delta / (2 * largest)).transpose(1, 2, 0).clip(0, 1), x, y)


def _place(axes: Axes, pixels: np.ndarray, x: float, y: float, **colors: Any) -> None:
    half, tall = 0.46, 0.46 * pixels.shape[0] / pixels.shape[1]
    axes.imshow(pixels, extent=(x - half, x + half, y + tall, y - tall), interpolation="nearest", aspect="equal", **colors)


def _words(axes: Axes, text: str, x: float, y: float, *, right: bool = True) -> None:
    look: dict[str, Any] = {} if right else {"color": VERMILION, "weight": "bold"}
    axes.text(x, y, text, ha="center", va="top", fontsize=6.5, **look)


def _heading(axes: Axes, text: str, x: float, y: float) -> None:
    axes.text(x, y, text, ha="center", va="bottom", fontsize=7.5)
