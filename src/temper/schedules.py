"""Learning rate schedules: a factor of the optimizer's rate, given how much of training is done.

They go through `LambdaLR` once per step, so every parameter group follows, and progress is counted in steps of this run.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from temper.config.types import NonNegative, checked

Schedule = Callable[[float], float]
Share = Annotated[float, Field(ge=0, lt=1)]


def constant() -> Schedule:
    """The optimizer's rate throughout."""
    return lambda progress: 1.0


@checked
def cosine(*, warmup: Share = 0.0) -> Schedule:
    """Rises linearly over the share `warmup` of training, then falls along half a cosine to 0."""

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return factor


@checked
def triangle(*, peak: Share = 0.4) -> Schedule:
    """Rises linearly to the rate at the share `peak` of training, then falls linearly to 0 (Smith 2017; Wong et al. 2020)."""
    return lambda progress: progress / peak if progress < peak else (1 - progress) / (1 - peak)


@checked
def piecewise(*, milestones: Sequence[Share] = (0.5, 0.75), gamma: NonNegative = 0.1) -> Schedule:
    """Times `gamma` at each milestone, a share of training (Rice et al. 2020 use 0.5 and 0.75)."""
    return lambda progress: gamma ** sum(progress >= milestone for milestone in milestones)
