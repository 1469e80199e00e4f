"""Number of seeds that a study needs to decide what is undecided."""

import math

import numpy as np
from statsmodels.stats.power import TTestPower

from temper.report.statistics.paired_differences import ALPHA

POWER = 0.8
MAX_SEEDS = 10_000  # reported as infinite beyond this


def seeds_needed(mean: float, sd: float, margin: float = 0.0) -> float:
    """Return the least number of seeds at which a paired t test distinguishes this mean from the margin.

    The test is two-sided at level `ALPHA` with power `POWER`, and takes the observed mean and standard deviation for the true
    ones. An observed effect is a rough estimate of the true one: the result is an order of magnitude, not a guarantee.

    Args:
        mean: mean of the differences by seed.
        sd: standard deviation of the differences by seed.
        margin: value that the mean is compared with.

    Returns:
        A whole number from 2 on; infinite beyond `MAX_SEEDS`; NaN for a single seed, whose standard deviation is unknown.
    """
    if not (math.isfinite(mean) and math.isfinite(sd)):
        return math.nan
    distance = abs(mean - margin)
    if distance == 0:
        return math.inf
    if sd == 0:
        return 2
    test = TTestPower()

    def is_reached(n: int) -> bool:
        # A power too close to 1 to be computed is NaN.
        power = test.power(distance / sd, n, ALPHA)
        return bool(np.isnan(power) or power >= POWER)

    if is_reached(2):
        return 2
    if not is_reached(MAX_SEEDS):
        return math.inf
    return math.ceil(test.solve_power(effect_size=distance / sd, nobs=None, alpha=ALPHA, power=POWER))
