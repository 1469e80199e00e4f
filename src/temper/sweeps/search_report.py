"""What a search found: every trial in the plane of its two objectives, and the settings that no other beats in both."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from temper.report.figures import COLORS, legend, pareto_front
from temper.report.statistics.pareto import on_front
from temper.report.tables.results_table import percent
from temper.sweeps.tuning_report import FAILED

BEATEN = "0.65"


class Tried(NamedTuple):
    """One trial.

    Attributes:
        number: from 0, in the order in which they were asked.
        parameters: by key, the values that it tried, as overrides write them.
        clean, robust: accuracy on the validation split for every search seed, in [0, 1]; empty where a run failed.
        reason: why it failed, in a line; else empty.
    """

    number: int
    parameters: Mapping[str, str]
    clean: Sequence[float]
    robust: Sequence[float]
    reason: str = ""

    @property
    def values(self) -> tuple[float, float]:
        """Mean clean and robust accuracy over seeds: the objectives."""
        return statistics.fmean(self.clean), statistics.fmean(self.robust)

    @property
    def shown(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.parameters.items())


class About(NamedTuple):
    """What a page tells of a search beside its trials.

    Attributes:
        axes: by key, as they were typed.
        sampler: its name and arguments.
        side_by_side: how many trials were asked before the first of them was told.
        seeds: of every trial.
        reported: the seeds of the runs that the report is made of.
        robust: name of the validation attack.
        near_an_end: by key, the numbers of the Pareto trials that lie near an end of its axis.
    """

    study: str
    axes: Mapping[str, str]
    sampler: str
    side_by_side: int
    seeds: Sequence[int]
    reported: Sequence[int]
    robust: str
    near_an_end: Mapping[str, Sequence[int]]


def pareto_set(tried: Sequence[Tried]) -> list[Tried]:
    """The trials that none beats: as good in both objectives and better in one. From the most robust to the most accurate; of
    two that tried the same, the first."""
    judged = list({trial.shown: trial for trial in reversed(tried) if not trial.reason}.values())
    unbeaten = on_front(np.array([trial.values for trial in judged]).reshape(-1, 2))
    best = [trial for trial, stays in zip(judged, unbeaten, strict=True) if stays]
    return sorted(best, key=lambda trial: (*trial.values, trial.number))


def search_page(about: About, tried: Sequence[Tried]) -> str:
    """What was searched and how, the Pareto set, what failed, and every trial."""
    best, failed = pareto_set(tried), [trial for trial in tried if trial.reason]
    chosen = {trial.number for trial in best}
    n = len(tried)
    axes = "\n".join(f"- `{key}`: {written}" for key, written in about.axes.items())
    batch = f", {about.side_by_side} at a time" if about.side_by_side > 1 else ""
    parts = [
        f"# {about.study}: what was searched, and what no other setting beats",
        f"{n} trials, each with seed {', '.join(map(str, about.seeds))}, asked of {about.sampler}{batch}:",
        axes,
        f"Both objectives are means over these seeds of the last epoch's accuracy on the validation split: clean (val/clean), "
        f"and robust under the validation attack (val/{about.robust}), whose radius is the same for every trial. None of these "
        f"runs was evaluated on the test set. Mean ± standard deviation over seeds, in %.",
        f"## Pareto set: {len(best)} of {n}",
    ]
    if not best:
        parts.append("Every trial failed.")
    else:
        parts += [
            _table(best, about),
            "No other trial is as good in both objectives and better in one. These settings were trained again with seed "
            f"{', '.join(map(str, about.reported))} and evaluated on the test set: table.md.",
            "![All trials and the Pareto set](search.png)",
        ]
    if about.near_an_end:
        named = "; ".join(f"`{key}` (trial {', '.join(map(str, numbers))})" for key, numbers in about.near_an_end.items())
        parts.append(f"Near an end of what was searched, so that a better value may lie beyond: {named}.")
    if failed:
        parts += ["## Failed", "\n".join(f"- trial {trial.number} ({trial.shown}): {trial.reason}" for trial in failed)]
    parts += ["## All trials", "In bold: the Pareto set.", _table(tried, about, bold=chosen)]
    return "\n\n".join(parts) + "\n"


def _table(trials: Sequence[Tried], about: About, bold: set[int] | None = None) -> str:
    rows = []
    for trial in trials:
        objectives = [FAILED if trial.reason else percent(values) for values in (trial.clean, trial.robust)]
        row = [str(trial.number), *trial.parameters.values(), *objectives]
        rows.append([f"**{cell}**" for cell in row] if bold and trial.number in bold else row)
    columns = ["trial", *about.axes, "val/clean", f"val/{about.robust}"]
    align = ["left", *["right"] * (len(columns) - 1)]
    return pd.DataFrame(rows, columns=columns).to_markdown(index=False, colalign=align, disable_numparse=True)


def search_figure(about: About, tried: Sequence[Tried]) -> Figure:
    """The validation plane: every trial a small grey mark, the Pareto set marked and connected; what lies below and to the left
    of the line is beaten. The second panel looks closer at the Pareto set, numbered, with its deviations over seeds."""
    best = pareto_set(tried)
    chosen = {trial.number for trial in best}
    beaten = _points([trial for trial in tried if not trial.reason and trial.number not in chosen])
    front = _points(best)
    figure = Figure(figsize=(8.2, 3.9), layout="constrained")
    whole, closer = figure.subplots(1, 2)
    whole.plot(*beaten.T, "o", color=BEATEN, markersize=3.5, markeredgewidth=0, zorder=1)
    whole.plot(*front.T, "D", color=COLORS[0], markersize=5, markeredgecolor="white", markeredgewidth=0.6, zorder=3)
    closer.plot(*beaten.T, "o", color=BEATEN, markersize=4.5, markeredgewidth=0, zorder=1)
    for trial, (x, y) in zip(best, front, strict=True):
        dx, dy = (100 * statistics.stdev(v) if len(v) > 1 else 0.0 for v in (trial.clean, trial.robust))
        closer.errorbar(x, y, xerr=dx, yerr=dy, color=COLORS[0], alpha=0.4, linewidth=1, zorder=2)
        closer.plot(x, y, "D", color=COLORS[0], markersize=6.5, markeredgecolor="white", markeredgewidth=0.7, zorder=4)
    for point in np.unique(front, axis=0):
        names = ", ".join(str(trial.number) for trial, place in zip(best, front, strict=True) if (place == point).all())
        closer.annotate(names, point, xytext=(5, 5), textcoords="offset points", fontsize=8, zorder=5)
    whole.autoscale_view()
    low, high = front.min(0), front.max(0)
    room = np.maximum(0.2 * (high - low), 1)
    closer.set_xlim(low[0] - room[0], high[0] + room[0])
    closer.set_ylim(low[1] - room[1], high[1] + room[1])
    right, up = pareto_front(*front.T)
    for panel in (whole, closer):
        (left, _), (down, _) = panel.get_xlim(), panel.get_ylim()
        line = [left, *right, right[-1]], [up[0], *up, down]
        panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim(), xlabel="clean validation accuracy %")
        panel.plot(*line, linestyle="--", color=COLORS[0], linewidth=1.1, drawstyle="steps-pre", zorder=2)
    whole.set_ylabel(f"robust validation accuracy, val/{about.robust} %")
    whole.set_title("all trials", fontsize=9)
    closer.set_title("the Pareto set, by number of trial", fontsize=9)
    handles = [
        Line2D([], [], color=BEATEN, marker="o", markersize=4, linestyle="", label="trial"),
        Line2D([], [], color=COLORS[0], marker="D", markersize=5, linestyle="--", linewidth=1.1, label="Pareto set"),
    ]
    legend(figure, handles, columns=2)
    return figure


def _points(trials: Sequence[Tried]) -> np.ndarray:
    """Clean and robust accuracy in %, a row for each trial."""
    return 100 * np.array([trial.values for trial in trials], dtype=float).reshape(-1, 2)
