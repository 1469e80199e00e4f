"""Rows of the results table: every combination of attack and penalty, or the cells that were selected."""

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple, cast

import pandas as pd

from temper.report.records.cell_names import name_sort_key, sort_names
from temper.report.tables.formatting import penalty_label

ORDERS = ("attack", "penalty")


class Row(NamedTuple):
    """A cell and its number of seeds, which is 0 if the cell was not run."""

    attack: str
    penalty: str
    setting: str
    seeds: int

    @property
    def cell(self) -> tuple[str, str, str]:
        return self.attack, self.penalty, self.setting

    @property
    def label(self) -> str:
        """The penalty with the setting that distinguishes it from others of its name."""
        return penalty_label(self.penalty, self.setting)

    @property
    def name(self) -> str:
        return f"{self.attack} x {self.label}"


def rows_of(data: pd.DataFrame, wanted: str | Sequence[str] = "attack") -> list[Row]:
    """Return the rows of a table, `none` first.

    Args:
        data: rows as returned by `temper.report.records.long_format.frame`.
        wanted: the axis to order by first, "attack" or "penalty"; or patterns such as "pgd x *", which select cells in this
            order.

    Raises:
        ValueError: `wanted` is another string, or a pattern matches no cell.
    """
    rows = _all_rows(data, by="penalty" if wanted == "penalty" else "attack")
    if isinstance(wanted, str):
        if wanted not in ORDERS:
            raise ValueError(
                f"table.rows={wanted}: unknown order. Use {' or '.join(ORDERS)}, or a list of patterns such as"
                " [none x none,pgd x *]."
            )
        return rows
    selected: dict[Row, None] = {}
    for pattern in map(str, wanted):
        matching = [row for row in rows if any(fnmatch.fnmatchcase(name, pattern) for name in _names(row))]
        if not matching:
            raise ValueError(f"table.rows: {pattern!r} matches no cell. Cells: {', '.join(row.name for row in rows)}.")
        selected |= dict.fromkeys(matching)
    return list(selected)


def _names(row: Row) -> set[str]:
    """Return the name of a cell with and without its setting."""
    return {row.name, f"{row.attack} x {row.penalty}"}


def _all_rows(data: pd.DataFrame, by: str) -> list[Row]:
    axes = [by, "penalty" if by == "attack" else "attack"]
    outer, inner = (sort_names(data[axis]) for axis in axes)
    seeds = data.groupby(["attack", "penalty", "setting"]).seed.nunique()
    settings: dict[tuple[str, str], dict[str, int]] = {}
    for (attack, penalty, setting), n in cast(dict[tuple[str, str, str], int], seeds.to_dict()).items():
        settings.setdefault((attack, penalty), {})[setting] = n
    rows = []
    for first in outer:
        for second in inner:
            attack, penalty = (first, second) if by == "attack" else (second, first)
            counts = settings.get((attack, penalty), {"": 0})
            rows += [Row(attack, penalty, setting, counts[setting]) for setting in sorted(counts, key=name_sort_key)]
    return rows
