"""The rows of a table: every attack with every penalty of a study, and those that are asked for, in their order."""

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple, cast

import pandas as pd

from temper.report.records.cell_names import in_order, none_first

ORDERS = ("attack", "penalty")


class Row(NamedTuple):
    """A cell and how many seeds it has; none where it was not run."""

    attack: str
    penalty: str
    setting: str
    seeds: int

    @property
    def cell(self) -> tuple[str, str, str]:
        return self.attack, self.penalty, self.setting

    @property
    def label(self) -> str:
        """The penalty with what tells it apart from others of its name."""
        return f"{self.penalty} ({self.setting})" if self.setting else self.penalty

    @property
    def name(self) -> str:
        return f"{self.attack} x {self.label}"


def rows_of(data: pd.DataFrame, wanted: str | Sequence[str] = "attack") -> list[Row]:
    """The rows of a table, `none` first.

    Args:
        data: rows as `temper.report.records.long_format.frame` gives them.
        wanted: "attack" or "penalty", which they are ordered by first; or patterns such as "pgd x *", which choose them, in
            this order.

    Raises:
        ValueError: it is none of these, or a pattern fits no cell.
    """
    rows = _all(data, by="penalty" if wanted == "penalty" else "attack")
    if isinstance(wanted, str):
        if wanted not in ORDERS:
            raise ValueError(f"table.rows={wanted}: {' or '.join(ORDERS)}, or a list of patterns such as [none x none,pgd x *]")
        return rows
    chosen: dict[Row, None] = {}
    for pattern in map(str, wanted):
        fitting = [row for row in rows if any(fnmatch.fnmatchcase(name, pattern) for name in (row.name, *_short(row)))]
        if not fitting:
            raise ValueError(f"table.rows: no cell fits {pattern!r}; there are {', '.join(row.name for row in rows)}")
        chosen |= dict.fromkeys(fitting)
    return list(chosen)


def _short(row: Row) -> list[str]:
    """A cell without its setting."""
    return [f"{row.attack} x {row.penalty}"] if row.setting else []


def _all(data: pd.DataFrame, by: str) -> list[Row]:
    axes = [by, "penalty" if by == "attack" else "attack"]
    outer, inner = (in_order(data[axis]) for axis in axes)
    seeds = data.groupby(["attack", "penalty", "setting"]).seed.nunique()
    settings: dict[tuple[str, str], dict[str, int]] = {}
    for (attack, penalty, setting), n in cast(dict[tuple[str, str, str], int], seeds.to_dict()).items():
        settings.setdefault((attack, penalty), {})[setting] = n
    rows = []
    for first in outer:
        for second in inner:
            attack, penalty = (first, second) if by == "attack" else (second, first)
            found = settings.get((attack, penalty), {"": 0})
            rows += [Row(attack, penalty, setting, found[setting]) for setting in sorted(found, key=none_first)]
    return rows
