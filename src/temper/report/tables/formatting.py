"""Text form of names and statistics: penalties with settings, differences with intervals, effect sizes, p-values."""

import pandas as pd

from temper.report.statistics.mean_and_sd import MISSING

MIN_P = 1e-16  # float64 cannot represent 1 - p below it
MAX_SEEDS = 10_000


def penalty_label(penalty: str, setting: str) -> str:
    """Return a penalty with the setting that distinguishes it from others of its name, e.g. "l2 (strength=3)"."""
    return f"{penalty} ({setting})" if setting else penalty


def interval(mean: float, low: float, high: float, digits: int) -> str:
    """Return text such as "+1.2 [0.3, 2.1]"; the mean alone if there is no interval, e.g. for one seed."""
    if pd.isna(mean):
        return MISSING
    return f"{mean:+.{digits}f}" + ("" if pd.isna(low) else f" {interval_bounds(low, high, digits)}")


def interval_bounds(low: float, high: float, digits: int) -> str:
    """Return text such as "[0.3, 2.1]"."""
    return MISSING if pd.isna(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def effect_size(value: float) -> str:
    """Return a signed effect size with one decimal place."""
    return MISSING if pd.isna(value) else f"{value:+.1f}"


def p_value(value: float) -> str:
    """Return a p-value with two significant digits, at least `MIN_P`."""
    return MISSING if pd.isna(value) else f"{max(value, MIN_P):.2g}"


def seeds_needed(count: float) -> str:
    """Return the number of seeds that would decide an undecided contrast, or "over 10,000"."""
    if pd.isna(count):
        return MISSING
    return f"{count:.0f}" if count < MAX_SEEDS else f"over {MAX_SEEDS:,}"
