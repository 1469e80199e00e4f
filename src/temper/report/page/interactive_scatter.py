"""Interactive scatter plot of any two metrics, as a Vega-Lite specification."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from temper.report.figures.style import COLORS
from temper.report.records.cell_names import sort_names
from temper.report.statistics.mean_and_sd import mean_and_sd_by_cell
from temper.report.statistics.metric_catalogue import METRICS, describe_metric
from temper.report.tables.formatting import penalty_label

# In the order of the markers of `temper.report.figures.style`.
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
PAPER = "#fdfcf9"  # background of the page, which fills hollow marks
FILLED, HALF, HOLLOW = 0.0, 0.5, 1.0  # fraction of background color in the fill of a mark
AXES = ("test/clean", "test/worst_case")
MARK = 110  # square pixels
FONT_SIZES = {"labelFontSize": 12, "titleFontSize": 13}


def scatter_chart(data: pd.DataFrame, checkpoint: str) -> dict[str, Any] | None:
    """Return the data of the chart; the page sets its axes.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        checkpoint: evaluated checkpoint.

    Returns:
        `metrics` to choose from (field and label) and the `spec`; None if fewer than two metrics were measured.
    """
    values = mean_and_sd_by_cell(data[data.checkpoint.isin([checkpoint, "run"])])
    measured = {metric for *_, metric in values}
    metrics = [metric for metric in dict.fromkeys([*AXES, *METRICS]) if metric in measured]
    if len(metrics) < 2:
        return None
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (attack, penalty, setting, _, metric), value in values.items():
        if metric in metrics:
            label = penalty_label(penalty, setting)
            row = rows.setdefault((attack, penalty, setting), {"attack": attack, "penalty": label, "seeds": value.n})
            shown, field = describe_metric(metric), f"m{metrics.index(metric)}"
            sd = 0.0 if pd.isna(value.sd) else value.sd
            row[field] = round(value.mean * shown.factor, 4)
            row[f"{field}low"], row[f"{field}high"] = (round((value.mean + s * sd) * shown.factor, 4) for s in (-1, 1))
            row[f"{field}text"] = value.text(shown)
    return {
        "metrics": [{"field": f"m{i}", "label": describe_metric(metric).label} for i, metric in enumerate(metrics)],
        "spec": _spec(list(rows.values())),
    }


def _spec(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    color = _nominal("attack", rows, COLORS)
    # Colors are lost in grayscale print: filled, hollow and half-filled marks distinguish attacks as well.
    fills = [_mix(each, PAPER, fraction) for each, fraction in zip(COLORS, cycle((FILLED, HOLLOW, HALF)), strict=False)]
    fill = _nominal("attack", rows, fills)
    shape = _nominal("penalty", rows, SHAPES)
    faded = {"condition": {"test": {"and": [{"param": "attacks"}, {"param": "penalties"}]}, "value": 1}, "value": 0.12}
    deviation = {"mark": "rule", "encoding": {"color": color, "opacity": faded}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": "Scatter plot of two metrics, one point per cell, with standard deviations over seeds.",
        "width": "container",
        "height": 380,
        "data": {"values": rows},
        "background": None,
        "config": {
            "view": {"stroke": None},
            "axis": {"gridColor": "#e8e4dc", "domainColor": "#8a8578", "tickCount": 8, **FONT_SIZES},
            "legend": {"labelLimit": 260, **FONT_SIZES},
        },
        "layer": [
            deviation,
            deviation,
            {
                "params": [
                    {"name": "attacks", "select": {"type": "point", "fields": ["attack"]}, "bind": "legend"},
                    {"name": "penalties", "select": {"type": "point", "fields": ["penalty"]}, "bind": "legend"},
                    {"name": "view", "select": "interval", "bind": "scales"},
                ],
                "mark": {"type": "point", "size": MARK, "strokeWidth": 1.6},
                "encoding": {"stroke": color, "fill": fill, "shape": shape, "opacity": faded},
            },
        ],
    }


def _mix(color: str, other: str, fraction: float) -> str:
    """Return a color mixed with a fraction of another color."""
    red, green, blue = ((1 - fraction) * a + fraction * b for a, b in zip(to_rgb(color), to_rgb(other), strict=True))
    return to_hex((red, green, blue))


def _nominal(axis: str, rows: Sequence[dict[str, Any]], values: Sequence[str]) -> dict[str, Any]:
    """Return an encoding of attacks or penalties by these values, which repeat if there are more names."""
    names = sort_names(row[axis] for row in rows)
    scale = {"domain": names, "range": [values[i % len(values)] for i in range(len(names))]}
    return {"field": axis, "type": "nominal", "title": axis, "scale": scale}
