"""Learning-rate schedules: functions from training progress in [0, 1] to a factor of the optimizer's learning rate.

They are applied by `LambdaLR` once per optimizer step, so every parameter group follows. Progress counts the steps of this run.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from temper.config.types import NonNegative, checked

Schedule = Callable[[float], float]
Progress = Annotated[float, Field(ge=0, lt=1)]  # fraction of training


def constant() -> Schedule:
    """Return a constant schedule: the optimizer's learning rate throughout."""
    return lambda progress: 1.0


@checked
def cosine(*, warmup: Progress = 0.0) -> Schedule:
    """Return a schedule with linear warmup, then decay along half a cosine to 0.

    Args:
        warmup: fraction of training spent on the warmup.
    """

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return factor


@checked
def triangle(*, peak: Progress = 0.4) -> Schedule:
    """Return a schedule of linear warm-up to the optimizer's rate and linear decay to 0 (Smith 2017; Wong et al. 2020).

    Args:
        peak: fraction of training at which the rate is highest.
    """
    return lambda progress: progress / peak if progress < peak else (1 - progress) / (1 - peak)


@checked
def piecewise(*, milestones: Sequence[Progress] = (0.5, 0.75), gamma: NonNegative = 0.1) -> Schedule:
    """Return a step schedule: the rate is multiplied by `gamma` at each milestone (Rice et al. 2020 use 0.5 and 0.75).

    Args:
        milestones: fractions of training.
        gamma: factor at each milestone.
    """
    return lambda progress: gamma ** sum(progress >= milestone for milestone in milestones)
