"""How every figure looks, and how it is saved. The same records give the same bytes."""

from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe & Ito 2008: told apart by colour-blind people. Neighbours differ in lightness too, so that grey print tells them apart;
# markers, fillings and dashes do so for the others.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#000000", "#CC79A7", "#56B4E9", "#D55E00")
VERMILION = COLORS[-1]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
FILLINGS: tuple[Any, ...] = ("full", "none", "left", "bottom", "right", "top")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))
# Both run from light to dark, without a turn.
SEQUENTIAL = "Blues"
DIVERGING = LinearSegmentedColormap.from_list("temper", ["#08306B", "#3F78B5", "#A6A6A6", "#F3B562", "#FFF0C4"])
LONG = 60  # characters of a name that is no longer set beside others
MARGIN = 0.1  # inches around what is drawn
WIDEST = 8.6  # inches: what a page still shows with letters that can be read
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}


class Look(NamedTuple):
    """How one of several is drawn, wherever it stands in a figure: colour, and what tells it apart without."""

    color: str
    marker: str
    filling: Literal["full", "none", "left", "right", "bottom", "top"]
    dashes: Any


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each of these names, in their order."""
    several = zip(cycle(COLORS), cycle(MARKERS), cycle(FILLINGS), cycle(DASHES), strict=False)
    return {name: Look(*look) for name, look in zip(dict.fromkeys(names), several, strict=False)}


def save(draw: Callable[[], Figure], path: Path) -> None:
    """As .png and .pdf, without the date and version that would make every copy different."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        # The layout takes as long as the drawing, and is the same for both.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(MARGIN)
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, bbox_inches=box)
        figure.savefig(
            path.with_suffix(".pdf"), metadata={"CreationDate": None, "Producer": None, "Creator": None}, bbox_inches=box
        )


def legend(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """Below the panels, in at most so many columns; names that hold a whole setting take a line each."""
    long = any(len(str(handle.get_label())) > LONG for handle in handles)
    columns = 1 if long else min(columns, len(handles))
    if long:
        figure.set_figheight(figure.get_figheight() + 0.16 * len(handles))  # inches: a line of the legend's font
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=8)


def sample(label: str, **look: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, **look)


def lightness(color: Any) -> float:
    """CIE L* of a colour, 0 (black) to 100 (white): what is left of it in grey print."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(color)]
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def readable_on(color: Any) -> str:
    """Black or white: whichever is read more easily on this colour. (By WCAG's ratio they are equal at L* 49.5, which leaves
    black on blues where white is read better.)"""
    return "white" if lightness(color) < 60 else "black"
