"""How many seeds a study would need to decide what it leaves undecided."""

import math

import numpy as np
from statsmodels.stats.power import TTestPower

from temper.report.statistics.paired_differences import ALPHA

POWER = 0.8
MOST = 10_000  # seeds: beyond this the answer is that no study will tell


def seeds_needed(mean: float, sd: float, margin: float = 0.0, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The least number of seeds at which a paired t test tells this mean from the margin, were the observed mean and standard
    deviation the true ones.

    An observed effect is a rough guess of the true one: this is the order of a study's size, no promise.

    Args:
        mean, sd: of the differences by seed.
        margin: what the mean is compared with.
        alpha: of the two-sided test.
        power: chance of finding the effect.

    Returns:
        A whole number from 2 on; infinite beyond `MOST`; NaN where one seed has told no spread.
    """
    if not (math.isfinite(mean) and math.isfinite(sd)):
        return math.nan
    distance = abs(mean - margin)
    if distance == 0:
        return math.inf
    if sd == 0:
        return 2
    test = TTestPower()

    def reached(n: int) -> bool:
        # Where the chance is too close to 1 to be computed it comes out as NaN.
        found = test.power(distance / sd, n, alpha)
        return bool(np.isnan(found) or found >= power)

    if reached(2):
        return 2
    if not reached(MOST):
        return math.inf
    return math.ceil(test.solve_power(effect_size=distance / sd, nobs=None, alpha=alpha, power=power))
