"""Axes of a search: parsed from Hydra overrides, as Optuna distributions, and back as overrides."""

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

SIGNIFICANT_DIGITS = 3  # of suggested values, which appear in tables and overrides
NEAR_END = 0.05  # fraction of an interval; an optimum this close to an end suggests a better value beyond it
AXIS_SYNTAX = "interval(0, 1), int(interval(1, 9)) or tag(log, interval(1e-4, 1e-1))"


@dataclass(frozen=True)
class Axis:
    """One searched key: an interval, a range or a choice.

    Attributes:
        key: as in the override, with its + and @package.
        text: the axis as it was typed.
        values: of a choice or range, as overrides write them; empty for an interval.
        ordered: True for the values of a range, whose order counts.
        low: lower end of an interval, inclusive.
        high: upper end of an interval, inclusive.
        log: True if an interval is searched on a logarithmic scale.
        whole: True for an interval of whole numbers.
    """

    key: str
    text: str
    values: tuple[str, ...] = ()
    ordered: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @classmethod
    def from_override(cls, override: Override) -> "Axis":
        """Parse an axis.

        Args:
            override: with an interval, a range or a choice as its value.

        Raises:
            ConfigError: there are fewer than two values, or an interval is empty or cannot be logarithmic.
        """
        key, text = override.get_key_element(), str(override.input_line).partition("=")[2]
        sweep = override.value()
        if not isinstance(sweep, IntervalSweep):
            values = tuple(dict.fromkeys(override.sweep_string_iterator()))
            if len(values) < 2:
                raise ConfigError(
                    f"{key}={text}: an axis of a search needs at least 2 values, but it has {len(values)}. Use {AXIS_SYNTAX}."
                )
            return cls(key, text, values, ordered=override.is_range_sweep())
        low, high, log = sweep.start, sweep.end, "log" in sweep.tags
        assert low is not None and high is not None
        if sweep.tags - {"log"}:
            raise ConfigError(f"{key}={text}: the only tag of an interval is log. Use {AXIS_SYNTAX}.")
        if not low < high < math.inf or (log and low <= 0):
            condition = "0 < low < high" if log else "low < high"
            raise ConfigError(f"{key}={text}: an interval needs {condition}. Use {AXIS_SYNTAX}.")
        return cls(key, text, low=low, high=high, log=log, whole=isinstance(low, int) and isinstance(high, int))

    @property
    def distribution(self) -> BaseDistribution:
        """Optuna's distribution; that of a range is over the positions of its values, because their order counts."""
        if self.ordered:
            return IntDistribution(0, len(self.values) - 1)
        if self.values:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, suggestion: Any) -> str:
        """Return Optuna's suggestion as an override writes it, rounded to `SIGNIFICANT_DIGITS` within the interval."""
        if self.values:
            return self.values[suggestion] if self.ordered else str(suggestion)
        if self.whole:
            return str(suggestion)
        return repr(min(max(float(f"{suggestion:.{SIGNIFICANT_DIGITS}g}"), self.low), self.high))

    @property
    def ends(self) -> tuple[str, ...]:
        """Values at both ends; for a choice, all values."""
        if self.values:
            return (self.values[0], self.values[-1]) if self.ordered else self.values
        return tuple(str(int(end)) if self.whole else repr(float(end)) for end in (self.low, self.high))

    def is_near_end(self, value: str) -> bool:
        """Return True if a value is so close to an end that a better one may be beyond it; never for a choice."""
        if self.values:
            return self.ordered and value in self.ends
        if self.whole:
            return value in self.ends
        low, high, position = (math.log(x) if self.log else x for x in (self.low, self.high, float(value)))
        return min(position - low, high - position) <= NEAR_END * (high - low)


def split_axes(loader: ConfigLoader, arguments: Sequence[str]) -> tuple[list[Axis], list[str]]:
    """Split overrides into the axes of a search and all others; a later override replaces an earlier one of the same key.

    Several values of `seed` are not an axis: they are the seeds of the report.

    Args:
        loader: Hydra's.
        arguments: overrides.

    Raises:
        ConfigError: an axis cannot be searched, or there is none.
    """
    try:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    except HydraException as error:
        raise ConfigError(f"{error}\nUse {AXIS_SYNTAX}, a,b or range(1, 9) for an axis of a search.") from None
    last = {override.get_key_element().lstrip("+"): override for override in parsed}
    axes, others = [], []
    for key, override in last.items():
        searched = override.is_sweep_override()
        if key == "seed" and (not searched or override.is_discrete_sweep()):
            searched = False
        elif searched and key in ("seed", "study"):
            raise ConfigError(
                f"{override.input_line}: {key} cannot be searched. Set the seeds of the report by seed=0,1,2 and those of the "
                "trials by hydra.sweeper.search.seed."
            )
        if searched:
            axes.append(Axis.from_override(override))
        else:
            others.append(str(override.input_line))
    if not axes:
        raise ConfigError(
            "hydra.sweeper.search: there is no axis to search. Add one to hydra.sweeper.params, such as "
            "'penalty.l2.weight: tag(log, interval(1e-4, 1e-1))', or set hydra.sweeper.search=null."
        )
    return axes, others


def axis_overrides(axes: Sequence[Axis], parameters: Mapping[str, str]) -> list[str]:
    """Return the overrides that set the axes.

    Args:
        axes: of the search.
        parameters: values by key.
    """
    return [f"{axis.key}={parameters[axis.key]}" for axis in axes]
