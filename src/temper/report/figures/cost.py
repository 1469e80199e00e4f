"""What robustness costs."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from temper.report.figures.cells import in_words
from temper.report.figures.plane import handles, points, scatter
from temper.report.figures.style import legend

COSTS = ("cost/seconds", "cost/gradient_evaluations")


def cost(data: pd.DataFrame, robust: str = "test/worst_case", checkpoint: str = "last") -> Figure:
    """Robust accuracy over what training cost, on a logarithmic scale: a panel for seconds, which depend on the machine,
    and one for gradient evaluations, which do not."""
    known = [metric for metric in COSTS if (data[data.metric == metric].value > 0).any()]
    figure = Figure(figsize=(4.0 * len(known) + 0.4, 3.6), layout="constrained")
    panels = figure.subplots(1, len(known), squeeze=False, sharey=True)[0]
    for panel, metric in zip(panels, known, strict=True):
        shown = points(data, metric, robust, checkpoint)
        scatter(panel, shown)
        panel.set_xscale("log")
        low, high = panel.get_xlim()
        panel.set_xlim(min(low, high / 4), high)  # at least so wide that a tick or two fall into it
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(in_words(metric))
    panels[0].set_ylabel(in_words(robust))
    panels[0].set_ylim(bottom=0)
    legend(figure, handles(shown), columns=5)
    return figure
