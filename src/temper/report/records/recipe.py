"""What a cell was made by: two cells are set against each other where they differ in nothing but what their names say."""

import hashlib
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from temper.config.cell import deciding
from temper.config.composed import flat
from temper.report.records.cell_names import parts_of
from temper.runs.record import RunRecord

STRENGTH = "strength"


def ingredients(record: RunRecord) -> dict[str, dict[str, Any]]:
    """A run's settings by dotted keys: those of its attack, of each penalty that it is named by, the strength that scales
    penalties, and the "rest"."""
    attack, own = f"attack.{record.attack}", sorted(parts_of(record.penalty))
    groups: dict[str, dict[str, Any]] = {name: {} for name in ("rest", attack, *(f"penalty.{name}" for name in own))}
    for key, value in flat(deciding(record.config)).items():
        if value is None or key == STRENGTH:
            continue
        axis, _, inner = key.partition(".")
        name = attack if axis == "attack" else f"penalty.{inner.partition('.')[0]}" if axis == "penalty" else "rest"
        groups[name if name in groups else "rest"][key] = value
    if record.config.get("penalty"):
        groups[STRENGTH] = {STRENGTH: float(record.config.get(STRENGTH, 1.0))}
    return groups


def recipe_of(record: RunRecord) -> str:
    """Digests of the ingredients and the strength as it is, such as "rest:… attack.pgd:… penalty.l2:… strength:1"."""
    groups = ingredients(record)
    parts = {name: _digest(values) for name, values in groups.items()}
    parts |= {name: f"{value:g}" for name, value in groups.get(STRENGTH, {}).items()}
    return " ".join(f"{name}:{value}" for name, value in parts.items())


def _digest(values: Mapping[str, Any]) -> str:
    # 1 and 1.0 are the same setting.
    said = repr([(key, float(value) if type(value) is int else value) for key, value in sorted(values.items())])
    return hashlib.sha256(said.encode()).hexdigest()[:8]


@cache
def parsed(recipe: str) -> Mapping[str, str]:
    """By name of the part; none of a recipe that is not known."""
    return dict(part.split(":", 1) for part in recipe.split())


def unlike(one: str, other: str, but: Collection[str] = ()) -> list[str]:
    """The parts that two recipes both have and differ in.

    Args:
        but: beginnings of what may differ.
    """
    here, there = parsed(one), parsed(other)
    return [name for name in here if here[name] != there.get(name, here[name]) and not name.startswith(tuple(but))]
