"""Ladders: one setting turned up rung by rung, what was measured on each, and the straight line through it."""

import gc
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from scipy.stats import linregress


@dataclass
class Rung:
    """One value of the setting, how it is measured, and what was found in each round."""

    x: float
    measure: Callable[[], float]
    found: list[float] = field(default_factory=list)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Over rounds; the middle one is the median."""
        if len(self.found) == 1:
            return self.found[0], self.found[0], self.found[0]
        low, median, high = statistics.quantiles(self.found, method="inclusive")
        return low, median, high

    @property
    def median(self) -> float:
        return self.quartiles[1]


class Line(NamedTuple):
    """Least squares through the medians of a ladder."""

    slope: float
    intercept: float
    r_squared: float

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x


@dataclass
class Ladder:
    """Rungs that differ in one setting.

    Attributes:
        name: what is turned up.
        axis: what is counted along it.
        unit: of what is measured.
        rounds: how often each rung is measured.
        rungs: ascending.
        straight: whether a straight line is expected; else the local exponent tells how it bends.
    """

    name: str
    axis: str
    unit: str
    rounds: int
    rungs: list[Rung]
    straight: bool = True

    def climb(self, number: int) -> None:
        """Round `number`, in an order of its own: nobody always runs behind the same one, or cleans up after it."""
        for rung in random.Random(number).sample(self.rungs, len(self.rungs)):
            gc.collect()
            rung.found.append(rung.measure())

    @property
    def line(self) -> Line | None:
        """None where there are too few rungs for a line to say anything."""
        if len(self.rungs) < 3:
            return None
        fit = linregress([rung.x for rung in self.rungs], [rung.median for rung in self.rungs])
        return Line(fit.slope, fit.intercept, fit.rvalue**2)

    @property
    def off(self) -> list[float]:
        """How far each median lies off the line, relative to the line; nothing where there is none."""
        line = self.line
        return [] if line is None else [rung.median / line.at(rung.x) - 1 for rung in self.rungs]

    @property
    def exponents(self) -> list[float]:
        """Between neighbours: what is measured grows as this power of the setting."""
        return [math.log(b.median / a.median) / math.log(b.x / a.x) for a, b in pairwise(self.rungs)]

    def table(self) -> Table:
        table = Table(title=f"{self.name}: medians of {self.rounds} rounds")
        for heading in (self.axis, self.unit, "half of the rounds", "off the line", "exponent"):
            table.add_column(heading, justify="right")
        off = [f"{100 * share:+.1f} %" for share in self.off] or ["–"] * len(self.rungs)
        exponents = ["", *(f"{exponent:.2f}" for exponent in self.exponents)]
        for rung, distance, exponent in zip(self.rungs, off, exponents, strict=True):
            low, median, high = map(shown, rung.quartiles)
            table.add_row(f"{rung.x:g}", median, f"{low} to {high}", distance, exponent)
        return table

    def verdict(self) -> str:
        """The line in words; of two rungs, how far the second leaves the first behind."""
        if (line := self.line) is not None:
            bends = (
                ""
                if self.straight
                else f"; exponents {', '.join(f'{e:.2f}' for e in self.exponents)} (1: linear, 2: quadratic)"
            )
            return (
                f"{self.unit} = {line.intercept:.3g} + {line.slope:.3g} x {self.axis}; "
                f"R² {line.r_squared:.4f}, at most {100 * max(map(abs, self.off)):.1f} % off the line{bends}"
            )
        first, last = self.rungs
        gain, times = last.median / first.median, last.x / first.x
        return f"{times:g} times the {self.axis}, {gain:.2f} times the {self.unit}: {100 * gain / times:.0f} % of proportional"


def shown(value: float) -> str:
    """Four figures, all those before the point at least."""
    return f"{value:.0f}" if value >= 1e4 else f"{value:#.4g}".rstrip(".")


def draw(ladders: Sequence[Ladder], path: Path, caption: str) -> None:
    """A panel for each ladder into one image: medians, half of the rounds as a bar, and the line."""
    columns = 3
    figure = Figure(figsize=(4.2 * columns, 3.6 * math.ceil(len(ladders) / columns)), layout="constrained")
    for place, ladder in enumerate(ladders, start=1):
        draw_one(figure.add_subplot(math.ceil(len(ladders) / columns), columns, place), ladder)
    figure.supxlabel(caption, fontsize="small", color="0.35")
    figure.savefig(path, dpi=150)


def draw_one(panel: Axes, ladder: Ladder) -> None:
    x = [rung.x for rung in ladder.rungs]
    low, median, high = np.array([rung.quartiles for rung in ladder.rungs]).T
    panel.errorbar(x, median, [median - low, high - median], fmt="o", color="black", ms=5, lw=1, capsize=3, zorder=3)
    end = 1.05 * x[-1]
    if not ladder.straight:
        panel.plot(x, median, "-", color="0.45", lw=1.5)
        told = "grows by the power\n" + ", ".join(f"{exponent:.2f}" for exponent in ladder.exponents)
    elif (line := ladder.line) is not None:
        panel.plot([0, end], [line.at(0), line.at(end)], "--", color="0.45", lw=1.5)
        told = f"R² = {line.r_squared:.4f}\nat most {100 * max(map(abs, ladder.off)):.1f} % off"
    else:
        panel.plot([0, end], [0, median[0] / x[0] * end], "--", color="0.45", lw=1.5)
        told = "dashed: proportional"
    panel.text(0.05, 0.95, told, transform=panel.transAxes, va="top", color="0.25")
    panel.set(title=ladder.name, xlabel=ladder.axis, ylabel=ladder.unit, xlim=(0, 1.08 * x[-1]), ylim=(0, None))
    panel.set_xticks(x, [f"{value:g}" for value in x], fontsize="small")
    panel.grid(axis="y", color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
