"""Report of a search: all trials in the plane of the two objectives, and those on the Pareto front."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from temper.report.figures import COLORS, legend, pareto_front
from temper.report.statistics.pareto import is_non_dominated
from temper.report.tables.results_table import percent
from temper.sweeps.tuning_report import FAILED

DOMINATED_COLOR = "0.65"


class TrialResult(NamedTuple):
    """Result of one trial.

    Attributes:
        number: of the trial, from 0, in the order of suggestion.
        parameters: values by key, as overrides write them.
        clean: clean accuracy on the validation split for every seed, in [0, 1]; empty if a run failed.
        robust: robust accuracy on the validation split for every seed, in [0, 1]; empty if a run failed.
        reason: why the trial failed, in one line; else empty.
    """

    number: int
    parameters: Mapping[str, str]
    clean: Sequence[float]
    robust: Sequence[float]
    reason: str = ""

    @property
    def values(self) -> tuple[float, float]:
        """The objectives: mean clean and robust accuracy over seeds."""
        return statistics.fmean(self.clean), statistics.fmean(self.robust)

    @property
    def setting(self) -> str:
        """The parameters in one line."""
        return ", ".join(f"{key}={value}" for key, value in self.parameters.items())


class SearchInfo(NamedTuple):
    """Description of a search, for its report.

    Attributes:
        study: name of the study.
        axes: by key, as they were typed.
        sampler: name and arguments of the sampler.
        concurrent: number of trials that were suggested before the first of them was reported.
        seeds: of every trial.
        report_seeds: of the runs in the study's report.
        attack: name of the validation attack.
        near_end: by key, numbers of the trials on the Pareto front that are near an end of the axis.
    """

    study: str
    axes: Mapping[str, str]
    sampler: str
    concurrent: int
    seeds: Sequence[int]
    report_seeds: Sequence[int]
    attack: str
    near_end: Mapping[str, Sequence[int]]


def pareto_trials(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the trials on the Pareto front, by ascending clean accuracy; of trials with equal settings, the first.

    A trial is on the front if no other trial is at least as good in both objectives and better in one.

    Args:
        results: of all trials.
    """
    distinct = list({trial.setting: trial for trial in reversed(results) if not trial.reason}.values())
    nondominated = is_non_dominated(np.array([trial.values for trial in distinct]).reshape(-1, 2))
    best = [trial for trial, kept in zip(distinct, nondominated, strict=True) if kept]
    return sorted(best, key=lambda trial: (*trial.values, trial.number))


def search_page(info: SearchInfo, results: Sequence[TrialResult]) -> str:
    """Return the Markdown page of a search: its settings, the Pareto front, failed trials and all trials.

    Args:
        info: description of the search.
        results: of all trials.
    """
    best, failed = pareto_trials(results), [trial for trial in results if trial.reason]
    numbers = {trial.number for trial in best}
    n = len(results)
    axes = "\n".join(f"- `{key}`: {text}" for key, text in info.axes.items())
    concurrency = f", {info.concurrent} concurrent" if info.concurrent > 1 else ""
    parts = [
        f"# {info.study}: search of clean and robust accuracy",
        f"{n} trials{concurrency}, each with seed {', '.join(map(str, info.seeds))}, suggested by {info.sampler}. Axes:",
        axes,
        "The two objectives are last-epoch accuracies on the validation split, averaged over seeds: clean accuracy "
        f"(val/clean), and robust accuracy under the validation attack (val/{info.attack}), whose radius is the same for every "
        "trial. These runs were not evaluated on the test set. Values are mean ± standard deviation over seeds, in %.",
        f"## Pareto front: {len(best)} of {n} trials",
    ]
    if not best:
        parts.append("Every trial failed.")
    else:
        parts += [
            _table(best, info),
            "No other trial is at least as good in both objectives and better in one. These settings were trained again with "
            f"seed {', '.join(map(str, info.report_seeds))} and evaluated on the test set: see table.md.",
            "![All trials and the Pareto front](search.png)",
        ]
    if info.near_end:
        named = "; ".join(f"`{key}` (trial {', '.join(map(str, trials))})" for key, trials in info.near_end.items())
        parts.append(f"Near an end of the searched interval, so a better value may be outside of it: {named}.")
    if failed:
        parts += [
            "## Failed trials",
            "\n".join(f"- trial {trial.number} ({trial.setting}): {trial.reason}" for trial in failed),
        ]
    parts += ["## All trials", "Trials on the Pareto front are in bold.", _table(results, info, bold=numbers)]
    return "\n\n".join(parts) + "\n"


def _table(trials: Sequence[TrialResult], info: SearchInfo, bold: set[int] | None = None) -> str:
    rows = []
    for trial in trials:
        objectives = [FAILED if trial.reason else percent(values) for values in (trial.clean, trial.robust)]
        row = [str(trial.number), *trial.parameters.values(), *objectives]
        rows.append([f"**{cell}**" for cell in row] if bold and trial.number in bold else row)
    columns = ["trial", *info.axes, "val/clean", f"val/{info.attack}"]
    align = ["left", *["right"] * (len(columns) - 1)]
    return pd.DataFrame(rows, columns=columns).to_markdown(index=False, colalign=align, disable_numparse=True)


def search_figure(info: SearchInfo, results: Sequence[TrialResult]) -> Figure:
    """Draw all trials in the plane of the two objectives.

    The first panel shows dominated trials in gray and the Pareto front marked and connected; every trial below and to the left
    of the line is dominated. The second panel zooms in on the front, with trial numbers and standard deviations over seeds.

    Args:
        info: description of the search.
        results: of all trials, at least one of which did not fail.
    """
    best = pareto_trials(results)
    numbers = {trial.number for trial in best}
    dominated = _points([trial for trial in results if not trial.reason and trial.number not in numbers])
    front = _points(best)
    figure = Figure(figsize=(8.2, 3.9), layout="constrained")
    whole, zoomed = figure.subplots(1, 2)
    whole.plot(*dominated.T, "o", color=DOMINATED_COLOR, markersize=3.5, markeredgewidth=0, zorder=1)
    whole.plot(*front.T, "D", color=COLORS[0], markersize=5, markeredgecolor="white", markeredgewidth=0.6, zorder=3)
    zoomed.plot(*dominated.T, "o", color=DOMINATED_COLOR, markersize=4.5, markeredgewidth=0, zorder=1)
    for trial, (x, y) in zip(best, front, strict=True):
        dx, dy = (100 * statistics.stdev(v) if len(v) > 1 else 0.0 for v in (trial.clean, trial.robust))
        zoomed.errorbar(x, y, xerr=dx, yerr=dy, color=COLORS[0], alpha=0.4, linewidth=1, zorder=2)
        zoomed.plot(x, y, "D", color=COLORS[0], markersize=6.5, markeredgecolor="white", markeredgewidth=0.7, zorder=4)
    for point in np.unique(front, axis=0):
        names = ", ".join(str(trial.number) for trial, position in zip(best, front, strict=True) if (position == point).all())
        zoomed.annotate(names, point, xytext=(5, 5), textcoords="offset points", fontsize=8, zorder=5)
    whole.autoscale_view()
    low, high = front.min(0), front.max(0)
    margin = np.maximum(0.2 * (high - low), 1)
    zoomed.set_xlim(low[0] - margin[0], high[0] + margin[0])
    zoomed.set_ylim(low[1] - margin[1], high[1] + margin[1])
    right, up = pareto_front(*front.T)
    for panel in (whole, zoomed):
        (left, _), (down, _) = panel.get_xlim(), panel.get_ylim()
        line = [left, *right, right[-1]], [up[0], *up, down]
        panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim(), xlabel="clean validation accuracy (%)")
        panel.plot(*line, linestyle="--", color=COLORS[0], linewidth=1.1, drawstyle="steps-pre", zorder=2)
    whole.set_ylabel(f"robust validation accuracy, val/{info.attack} (%)")
    whole.set_title("all trials", fontsize=9)
    zoomed.set_title("Pareto front, with trial numbers", fontsize=9)
    handles = [
        Line2D([], [], color=DOMINATED_COLOR, marker="o", markersize=4, linestyle="", label="dominated trial"),
        Line2D([], [], color=COLORS[0], marker="D", markersize=5, linestyle="--", linewidth=1.1, label="Pareto front"),
    ]
    legend(figure, handles, columns=2)
    return figure


def _points(trials: Sequence[TrialResult]) -> np.ndarray:
    """Return clean and robust accuracy in %, one row for each trial, (N, 2)."""
    return 100 * np.array([trial.values for trial in trials], dtype=float).reshape(-1, 2)
