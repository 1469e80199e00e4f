"""How statistics are printed: differences with their intervals, effect sizes, p-values, seeds that are needed."""

import math

import pandas as pd

from temper.report.statistics.mean_and_sd import MISSING

SMALLEST = 1e-16  # p: what float64 leaves of less is no number to print
MOST = 10_000  # seeds that would decide something


def interval(mean: float, low: float, high: float, digits: int) -> str:
    """Such as "+1.2 [0.3, 2.1]"; the mean alone where there is no interval, as of one seed."""
    if pd.isna(mean):
        return MISSING
    return f"{mean:+.{digits}f}" + ("" if pd.isna(low) else f" {span(low, high, digits)}")


def span(low: float, high: float, digits: int) -> str:
    return MISSING if pd.isna(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def effect_size(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:+.1f}"


def p_value(value: float) -> str:
    return MISSING if pd.isna(value) else f"{max(value, SMALLEST):.2g}"


def seeds(needed: float) -> str:
    """How many would decide what is undecided."""
    return MISSING if pd.isna(needed) else f"{needed:.0f}" if needed < MOST and math.isfinite(needed) else f"over {MOST:,}"
