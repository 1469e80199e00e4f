"""Measurements of cost over increasing values of one setting, with a linear fit."""

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
    """One value of the setting.

    Attributes:
        x: the value.
        measure: function that measures the cost once.
        found: the cost in each round.
    """

    x: float
    measure: Callable[[], float]
    found: list[float] = field(default_factory=list)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Quartiles over rounds."""
        if len(self.found) == 1:
            return self.found[0], self.found[0], self.found[0]
        low, median, high = statistics.quantiles(self.found, method="inclusive")
        return low, median, high

    @property
    def median(self) -> float:
        return self.quartiles[1]


class Line(NamedTuple):
    """Least-squares line through the medians of a ladder."""

    slope: float
    intercept: float
    r_squared: float

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x


@dataclass
class Ladder:
    """Series of measurements that differ in one setting.

    Attributes:
        name: title of the series.
        axis: unit of the setting.
        unit: unit of the measured cost.
        rounds: number of measurements per rung.
        rungs: values of the setting, ascending.
        straight: whether a linear relation is expected; otherwise local exponents describe the growth.
    """

    name: str
    axis: str
    unit: str
    rounds: int
    rungs: list[Rung]
    straight: bool = True

    def climb(self, number: int) -> None:
        """Measure every rung once, in an order that depends on the round, so that no rung always follows the same one."""
        for rung in random.Random(number).sample(self.rungs, len(self.rungs)):
            gc.collect()
            rung.found.append(rung.measure())

    @property
    def line(self) -> Line | None:
        """Line through the medians; None for fewer than three rungs."""
        if len(self.rungs) < 3:
            return None
        fit = linregress([rung.x for rung in self.rungs], [rung.median for rung in self.rungs])
        return Line(fit.slope, fit.intercept, fit.rvalue**2)

    @property
    def deviations(self) -> list[float]:
        """Deviation of each median from the line, relative to the line; empty without a line."""
        line = self.line
        return [] if line is None else [rung.median / line.at(rung.x) - 1 for rung in self.rungs]

    @property
    def exponents(self) -> list[float]:
        """Local exponents between neighboring rungs: the cost grows as this power of the setting."""
        return [math.log(b.median / a.median) / math.log(b.x / a.x) for a, b in pairwise(self.rungs)]

    def table(self) -> Table:
        """Return a table with a row for each rung."""
        table = Table(title=f"{self.name}: medians of {self.rounds} rounds")
        for heading in (self.axis, self.unit, "interquartile range", "deviation", "exponent"):
            table.add_column(heading, justify="right")
        deviations = [f"{100 * deviation:+.1f} %" for deviation in self.deviations] or ["–"] * len(self.rungs)
        exponents = ["", *(f"{exponent:.2f}" for exponent in self.exponents)]
        for rung, deviation, exponent in zip(self.rungs, deviations, exponents, strict=True):
            low, median, high = map(significant, rung.quartiles)
            table.add_row(f"{rung.x:g}", median, f"{low} to {high}", deviation, exponent)
        return table

    def verdict(self) -> str:
        """Return the fitted line as text; for two rungs, the ratio of their costs."""
        if (line := self.line) is not None:
            growth = (
                ""
                if self.straight
                else f"; exponents {', '.join(f'{e:.2f}' for e in self.exponents)} (1: linear, 2: quadratic)"
            )
            return (
                f"{self.unit} = {line.intercept:.3g} + {line.slope:.3g} x {self.axis}; "
                f"R² {line.r_squared:.4f}, at most {100 * max(map(abs, self.deviations)):.1f} % off the line{growth}"
            )
        first, last = self.rungs
        gain, times = last.median / first.median, last.x / first.x
        return f"{times:g} times the {self.axis}, {gain:.2f} times the {self.unit}: {100 * gain / times:.0f} % of proportional"


def significant(value: float) -> str:
    """Return a number with four significant digits, or as an integer if it has more digits."""
    return f"{value:.0f}" if value >= 1e4 else f"{value:#.4g}".rstrip(".")


def draw(ladders: Sequence[Ladder], path: Path, caption: str) -> None:
    """Save a figure with a panel for each ladder: medians, interquartile ranges and the fitted line."""
    columns = 3
    figure = Figure(figsize=(4.2 * columns, 3.6 * math.ceil(len(ladders) / columns)), layout="constrained")
    for place, ladder in enumerate(ladders, start=1):
        draw_one(figure.add_subplot(math.ceil(len(ladders) / columns), columns, place), ladder)
    figure.supxlabel(caption, fontsize="small", color="0.35")
    figure.savefig(path, dpi=150)


def draw_one(panel: Axes, ladder: Ladder) -> None:
    """Draw one ladder into a panel."""
    x = [rung.x for rung in ladder.rungs]
    low, median, high = np.array([rung.quartiles for rung in ladder.rungs]).T
    panel.errorbar(x, median, [median - low, high - median], fmt="o", color="black", ms=5, lw=1, capsize=3, zorder=3)
    end = 1.05 * x[-1]
    if not ladder.straight:
        panel.plot(x, median, "-", color="0.45", lw=1.5)
        label = "local exponents\n" + ", ".join(f"{exponent:.2f}" for exponent in ladder.exponents)
    elif (line := ladder.line) is not None:
        panel.plot([0, end], [line.at(0), line.at(end)], "--", color="0.45", lw=1.5)
        label = f"R² = {line.r_squared:.4f}\nat most {100 * max(map(abs, ladder.deviations)):.1f} % off"
    else:
        panel.plot([0, end], [0, median[0] / x[0] * end], "--", color="0.45", lw=1.5)
        label = "dashed: proportional"
    panel.text(0.05, 0.95, label, transform=panel.transAxes, va="top", color="0.25")
    panel.set(title=ladder.name, xlabel=ladder.axis, ylabel=ladder.unit, xlim=(0, 1.08 * x[-1]), ylim=(0, None))
    panel.set_xticks(x, [f"{value:g}" for value in x], fontsize="small")
    panel.grid(axis="y", color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
