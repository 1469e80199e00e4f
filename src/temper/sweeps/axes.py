"""What a search varies: axes written as Hydra's sweeps are, as Optuna's distributions, and back as overrides."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from temper.config.errors import ConfigError

DIGITS = 3  # significant ones of what is tried, so that tables and overrides can be read
NEAR = 0.05  # of an interval's length: so near its end, the best may lie beyond
INTERVALS = "interval(0, 1), int(interval(1, 9)) or tag(log, interval(1e-4, 1e-1))"


@dataclass(frozen=True)
class Axis:
    """One key that a search varies: within an interval, or among steps or choices.

    Attributes:
        key: as it is overridden, with the + and @package it was typed with.
        written: the axis as it was typed.
        values: of a choice or range, as overrides write them; empty for an interval.
        ordered: whether the values are those of a range, so that neighbours are alike.
        low, high, log, whole: of an interval: its ends, both of which can be tried, whether by orders of magnitude, and
            whether of whole numbers.
    """

    key: str
    written: str
    values: tuple[str, ...] = ()
    ordered: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @classmethod
    def of(cls, override: Override) -> "Axis":
        """
        Raises:
            ConfigError: it has no value, or an interval is empty or cannot be logarithmic.
        """
        key, written = override.get_key_element(), str(override.input_line).partition("=")[2]
        sweep = override.value()
        if not isinstance(sweep, IntervalSweep):
            values = tuple(dict.fromkeys(override.sweep_string_iterator()))
            if len(values) < 2:
                raise ConfigError(f"{key}={written} is no axis of a search: it has {len(values)} values; write {INTERVALS}")
            return cls(key, written, values, ordered=override.is_range_sweep())
        low, high, log = sweep.start, sweep.end, "log" in sweep.tags
        assert low is not None and high is not None
        if sweep.tags - {"log"}:
            raise ConfigError(f"{key}={written}: the only tag of an interval is log; write {INTERVALS}")
        if not low < high < math.inf or (log and low <= 0):
            wanted = "0 < low < high" if log else "low < high"
            raise ConfigError(f"{key}={written}: an interval needs {wanted}; write {INTERVALS}")
        return cls(key, written, low=low, high=high, log=log, whole=isinstance(low, int) and isinstance(high, int))

    @property
    def distribution(self) -> BaseDistribution:
        """As Optuna knows it; a range as the places of its values, whose order then counts."""
        if self.ordered:
            return IntDistribution(0, len(self.values) - 1)
        if self.values:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, asked: Any) -> str:
        """What Optuna asked for as an override writes it, rounded to `DIGITS` and still within the interval."""
        if self.values:
            return self.values[asked] if self.ordered else str(asked)
        return str(asked) if self.whole else repr(min(max(float(f"{asked:.{DIGITS}g}"), self.low), self.high))

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that can be tried at its ends; every one of a choice."""
        if self.values:
            return (self.values[0], self.values[-1]) if self.ordered else self.values
        return tuple(str(int(end)) if self.whole else repr(float(end)) for end in (self.low, self.high))

    def near_an_end(self, value: str) -> bool:
        """Whether a value lies so near an end that a better one may lie beyond; no choice does."""
        if self.values:
            return self.ordered and value in self.ends
        if self.whole:
            return value in self.ends
        low, high, here = (math.log(x) if self.log else x for x in (self.low, self.high, float(value)))
        return min(here - low, high - here) <= NEAR * (high - low)


def split(loader: ConfigLoader, arguments: Sequence[str]) -> tuple[list[Axis], list[str]]:
    """The axes among overrides, and the others as they stand; a later override replaces an earlier one of its key.

    Several values of `seed` are no axis of a search: every setting is reported with all of them.

    Raises:
        ConfigError: an axis cannot be searched, or there is none.
    """
    try:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    except HydraException as error:
        raise ConfigError(f"{error}\nan axis of a search is written {INTERVALS}, a,b or range(1, 9)") from None
    last = {override.get_key_element().lstrip("+"): override for override in parsed}
    axes, others = [], []
    for key, override in last.items():
        searched = override.is_sweep_override()
        if key == "seed" and (not searched or override.is_discrete_sweep()):
            searched = False
        elif searched and key in ("seed", "study"):
            raise ConfigError(
                f"{override.input_line}: {key} is no axis of a search; seed=0,1,2 are the seeds that the Pareto set is "
                "reported with, hydra.sweeper.search.seed those that it is searched with"
            )
        if searched:
            axes.append(Axis.of(override))
        else:
            others.append(str(override.input_line))
    if not axes:
        raise ConfigError(
            "hydra.sweeper.search is set, and there is nothing to search: give hydra.sweeper.params an axis such as "
            "'penalty.l2.weight: tag(log, interval(1e-4, 1e-1))', or set hydra.sweeper.search=null"
        )
    return axes, others


def overrides(axes: Sequence[Axis], parameters: Mapping[str, str]) -> list[str]:
    return [f"{axis.key}={parameters[axis.key]}" for axis in axes]
