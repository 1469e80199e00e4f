"""Colors, markers and legends shared by all figures, and saving. The same records give the same bytes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib.artist import Artist
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe & Ito 2008, distinguishable with color vision deficiency. Neighbors also differ in lightness, for grayscale print;
# markers, fill styles and dashes distinguish the others.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#000000", "#CC79A7", "#56B4E9", "#D55E00")
VERMILION = COLORS[-1]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
FILLSTYLES: tuple[Any, ...] = ("full", "none", "left", "bottom", "right", "top")
LINESTYLES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 3)),
)
# Both are monotone in lightness.
SEQUENTIAL = "Blues"
DIVERGING = LinearSegmentedColormap.from_list("temper", ["#08306B", "#3F78B5", "#A6A6A6", "#F3B562", "#FFF0C4"])
LONG_LABEL = 60  # characters of a label that takes a legend line of its own
MARGIN = 0.1  # inches around the drawing
WIDEST = 8.6  # inches: the widest figure whose text stays legible on a page
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


class SeriesStyle(NamedTuple):
    """Style of one series in all panels of a figure; no two neighbors rely on color alone."""

    color: str
    marker: str
    fillstyle: Literal["full", "none", "left", "right", "bottom", "top"]
    linestyle: Any

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments of a line with markers."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}


def series_styles(names: Iterable[str]) -> dict[str, SeriesStyle]:
    """Return a style for each distinct name, in order."""
    styles = zip(cycle(COLORS), cycle(MARKERS), cycle(FILLSTYLES), cycle(LINESTYLES), strict=False)
    return {name: SeriesStyle(*style) for name, style in zip(dict.fromkeys(names), styles, strict=False)}


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure and save it as .png and .pdf, without dates and versions that would make the files irreproducible."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        # The layout takes as long as the drawing, and both files share it.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(MARGIN)
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, bbox_inches=box)
        figure.savefig(
            path.with_suffix(".pdf"), metadata={"CreationDate": None, "Producer": None, "Creator": None}, bbox_inches=box
        )


def legend(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """Add a legend below the panels, with one entry per line if a label is longer than `LONG_LABEL`.

    Args:
        figure: the figure.
        handles: legend entries.
        columns: maximum number of columns.
    """
    long = any(len(str(handle.get_label())) > LONG_LABEL for handle in handles)
    columns = 1 if long else min(columns, len(handles))
    if long:
        figure.set_figheight(figure.get_figheight() + 0.16 * len(handles))  # inches: a line of the legend's font
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=8)


def legend_entry(label: str, **style: Any) -> Line2D:
    """Return a legend entry with this style."""
    return Line2D([], [], label=label, **style)


def series_entries(axis: str, styles: Mapping[str, SeriesStyle], **line: Any) -> list[Line2D]:
    """Return a legend entry for each series, e.g. "penalty: l2".

    Args:
        axis: label before each name.
        styles: style by name.
        line: keyword arguments that take precedence over the styles.
    """
    return [legend_entry(f"{axis}: {name}", **style.line | line) for name, style in styles.items()]


def lightness(color: Any) -> float:
    """Return the CIE L* of a color, from 0 (black) to 100 (white), i.e. its gray level in grayscale print."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(color)]
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def text_color_on(color: Any) -> str:
    """Return "black" or "white", whichever is more legible on this color.

    By WCAG's contrast ratio both are equal at L* 49.5, which leaves black text on blues where white is more legible.
    """
    return "white" if lightness(color) < 60 else "black"
