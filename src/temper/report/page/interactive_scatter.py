"""The plane of two metrics, of the reader's choice, as a chart that answers to the pointer: a Vega-Lite specification."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from temper.report.figures.style import COLORS
from temper.report.records.cell_names import in_order
from temper.report.statistics.mean_and_sd import spreads
from temper.report.statistics.metric_catalogue import METRICS, describe

# In the order of the figures' markers.
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
PAPER = "#fdfcf9"  # of the page: what a hollow mark is filled with
FILLED, HALF, HOLLOW = 0.0, 0.5, 1.0  # how much paper the inside of a mark has
AXES = ("test/clean", "test/worst_case")
MARK = 110  # square pixels
LETTERS = {"labelFontSize": 12, "titleFontSize": 13}


def chart(data: pd.DataFrame, checkpoint: str) -> dict[str, Any] | None:
    """What the chart needs: `metrics` (to choose from: field and label), and the `spec`, whose axes the page sets.

    None where no cell has two metrics.

    Args:
        data: rows as `temper.report.records.long_format.frame` gives them.
        checkpoint: whose numbers are shown.
    """
    known = spreads(data[data.checkpoint.isin([checkpoint, "run"])])
    there = {metric for *_, metric in known}
    metrics = [metric for metric in dict.fromkeys([*AXES, *METRICS]) if metric in there]
    if len(metrics) < 2:
        return None
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (attack, penalty, setting, _, metric), value in known.items():
        if metric in metrics:
            name = f"{penalty} ({setting})" if setting else penalty
            row = rows.setdefault((attack, penalty, setting), {"attack": attack, "penalty": name, "seeds": value.n})
            shown, field = describe(metric), f"m{metrics.index(metric)}"
            sd = 0.0 if pd.isna(value.sd) else value.sd
            row[field] = round(value.mean * shown.factor, 4)
            row[f"{field}low"], row[f"{field}high"] = (round((value.mean + s * sd) * shown.factor, 4) for s in (-1, 1))
            row[f"{field}text"] = value.text(shown)
    return {
        "metrics": [{"field": f"m{i}", "label": describe(metric).label} for i, metric in enumerate(metrics)],
        "spec": _spec(list(rows.values())),
    }


def _spec(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    color = _told("attack", rows, COLORS)
    # Colour alone is lost in grey print: full, hollow and half tell attacks apart too.
    inside = _told(
        "attack", rows, [_mixed(each, PAPER, of) for each, of in zip(COLORS, cycle((FILLED, HOLLOW, HALF)), strict=False)]
    )
    shape = _told("penalty", rows, SHAPES)
    faded = {"condition": {"test": {"and": [{"param": "attacks"}, {"param": "penalties"}]}, "value": 1}, "value": 0.12}
    deviation = {"mark": "rule", "encoding": {"color": color, "opacity": faded}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": "Every cell of the study as a point in the plane of two metrics, with standard deviations over seeds.",
        "width": "container",
        "height": 380,
        "data": {"values": rows},
        "background": None,
        "config": {
            "view": {"stroke": None},
            "axis": {"gridColor": "#e8e4dc", "domainColor": "#8a8578", "tickCount": 8, **LETTERS},
            "legend": {"labelLimit": 260, **LETTERS},
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
                "encoding": {"stroke": color, "fill": inside, "shape": shape, "opacity": faded},
            },
        ],
    }


def _mixed(color: str, other: str, share: float) -> str:
    """A colour with a share of another one in it."""
    red, green, blue = ((1 - share) * one + share * more for one, more in zip(to_rgb(color), to_rgb(other), strict=True))
    return to_hex((red, green, blue))


def _told(axis: str, rows: Sequence[dict[str, Any]], by: Sequence[str]) -> dict[str, Any]:
    """By what the names of an axis are told apart; the first comes again where they are more."""
    names = in_order(row[axis] for row in rows)
    scale = {"domain": names, "range": [by[i % len(by)] for i in range(len(names))]}
    return {"field": axis, "type": "nominal", "title": axis, "scale": scale}
