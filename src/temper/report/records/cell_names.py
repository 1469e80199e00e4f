"""The names of cells: penalties that are joined by a plus."""

import re
from collections.abc import Iterable

Option = str | tuple[str, ...]


def parts_of(penalty: str) -> set[str]:
    """The penalties that a cell's name joins."""
    return set(penalty.split(" + ")) - {"none"}


def without(penalty: str, names: Option) -> str:
    """The name of a penalty less some of its parts."""
    return " + ".join(part for part in penalty.split(" + ") if part not in names) or "none"


def none_first(name: str) -> tuple[bool, list[str], list[tuple[float, str]]]:
    """A key to sort names by: `none` first, and strength=3 before strength=10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", name)
    numbers = [(float(part), "") if position % 2 else (0.0, part) for position, part in enumerate(parts)]
    return name.partition(" ")[0] != "none", parts[:1], numbers


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once, in order."""
    return sorted(set(names), key=none_first)


def apart_from_strength(penalty: str, setting: str) -> str:
    """A cell's name without its strength: what cells that differ in strength alone have in common."""
    others = ", ".join(part for part in setting.split(", ") if not part.startswith("strength="))
    return f"{penalty} ({others})" if others else penalty
