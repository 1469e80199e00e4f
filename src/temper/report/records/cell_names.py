"""Names of cells: split, reduce and sort penalty names such as "dropout + l2"."""

import re
from collections.abc import Iterable

Option = str | tuple[str, ...]


def penalty_names(penalty: str) -> set[str]:
    """Return the penalties that a cell's name combines; empty for `none`."""
    return set(penalty.split(" + ")) - {"none"}


def drop_penalties(penalty: str, names: Option) -> str:
    """Return a penalty name without the given penalties; "none" if none is left."""
    return " + ".join(part for part in penalty.split(" + ") if part not in names) or "none"


def name_sort_key(name: str) -> tuple[bool, list[str], list[tuple[float, str]]]:
    """Return a sort key for names: `none` first, numbers by value (strength=3 before strength=10)."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", name)
    numbers = [(float(part), "") if position % 2 else (0.0, part) for position, part in enumerate(parts)]
    return name.partition(" ")[0] != "none", parts[:1], numbers


def sort_names(names: Iterable[str]) -> list[str]:
    """Return the distinct names, sorted by `name_sort_key`."""
    return sorted(set(names), key=name_sort_key)


def name_without_strength(penalty: str, setting: str) -> str:
    """Return a cell's name without its strength, which is shared by cells that differ in strength only.

    Args:
        penalty: name of the penalty.
        setting: "key=value, …", the settings that distinguish the cell.
    """
    others = ", ".join(part for part in setting.split(", ") if not part.startswith("strength="))
    return f"{penalty} ({others})" if others else penalty
