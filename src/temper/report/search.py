"""What a search found: every trial in the plane of its two objectives, and the settings that no other beats in both."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from temper.report.figures import COLORS, pareto_front
from temper.report.table import percent, to_markdown
from temper.report.tuning import FAILED


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
    best = [trial for trial in judged if not any(_beats(other.values, trial.values) for other in judged)]
    return sorted(best, key=lambda trial: (*trial.values, trial.number))


def _beats(other: tuple[float, float], one: tuple[float, float]) -> bool:
    return other != one and other[0] >= one[0] and other[1] >= one[1]


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
            to_markdown(_table(best, about)),
            "No other trial is as good in both objectives and better in one. These settings were trained again with seed "
            f"{', '.join(map(str, about.reported))} and evaluated on the test set: table.md.",
            "![All trials and the Pareto set](search.png)",
        ]
    if about.near_an_end:
        named = "; ".join(f"`{key}` (trial {', '.join(map(str, numbers))})" for key, numbers in about.near_an_end.items())
        parts.append(f"Near an end of what was searched, so that a better value may lie beyond: {named}.")
    if failed:
        parts += ["## Failed", "\n".join(f"- trial {trial.number} ({trial.shown}): {trial.reason}" for trial in failed)]
    parts += ["## All trials", "In bold: the Pareto set.", to_markdown(_table(tried, about, bold=chosen))]
    return "\n\n".join(parts) + "\n"


def _table(trials: Sequence[Tried], about: About, bold: set[int] | None = None) -> pd.DataFrame:
    rows = []
    for trial in trials:
        objectives = [FAILED if trial.reason else percent(values) for values in (trial.clean, trial.robust)]
        row = [str(trial.number), *trial.parameters.values(), *objectives]
        rows.append([f"**{cell}**" for cell in row] if bold and trial.number in bold else row)
    return pd.DataFrame(rows, columns=["trial", *about.axes, "val/clean", f"val/{about.robust}"])


def search_figure(about: About, tried: Sequence[Tried]) -> Figure:
    """The validation plane: every trial a small grey mark, the Pareto set numbered, with its deviations over seeds, and
    connected; what lies below and to the left of the line is beaten."""
    best = pareto_set(tried)
    chosen = {trial.number for trial in best}
    beaten = [trial for trial in tried if not trial.reason and trial.number not in chosen]
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    points = pd.DataFrame([trial.values for trial in beaten], columns=["x", "y"]) * 100
    axes.plot(points.x, points.y, "o", color="0.72", markersize=3.5, markeredgewidth=0, zorder=1)
    numbers: dict[tuple[float, float], list[int]] = {}
    for trial in best:
        x, y = (100 * value for value in trial.values)
        numbers.setdefault((x, y), []).append(trial.number)
        dx, dy = (100 * statistics.stdev(v) if len(v) > 1 else 0.0 for v in (trial.clean, trial.robust))
        axes.errorbar(x, y, xerr=dx, yerr=dy, color=COLORS[0], alpha=0.35, linewidth=1, zorder=2)
    place = pd.DataFrame(list(numbers), columns=["x", "y"])
    axes.plot(place.x, place.y, "D", color=COLORS[0], markersize=6, markeredgecolor="white", markeredgewidth=0.7, zorder=4)
    for (x, y), names in numbers.items():
        label = ", ".join(map(str, names))
        axes.annotate(label, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8, zorder=5)
    axes.autoscale_view()
    axes.autoscale(False)
    right, up = pareto_front(place.x.to_numpy(), place.y.to_numpy())
    line = [axes.get_xlim()[0], *right, right[-1]], [up[0], *up, axes.get_ylim()[0]]
    axes.plot(*line, linestyle="--", color=COLORS[0], linewidth=1.1, drawstyle="steps-pre", zorder=3)
    axes.set_xlabel("clean accuracy on the validation split %")
    axes.set_ylabel(f"robust accuracy on the validation split, val/{about.robust} %")
    handles = [
        Line2D([], [], color="0.72", marker="o", markersize=4, linestyle="", label="trial"),
        Line2D([], [], color=COLORS[0], marker="D", linestyle="--", linewidth=1.1, label="Pareto set, by number of trial"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure
