"""Recipes of cells: digests of all settings, by which cells that differ in nothing but their names are paired."""

import hashlib
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from temper.config.cell import identity_settings
from temper.config.composed import flat
from temper.report.records.cell_names import penalty_names
from temper.runs.record import RunRecord

STRENGTH = "strength"


def recipe_settings(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Return the settings of a run by dotted keys, grouped by the parts of its recipe.

    The parts are its attack, each penalty in its name, the strength that scales penalties, and "rest".
    """
    attack, penalties = f"attack.{record.attack}", sorted(penalty_names(record.penalty))
    groups: dict[str, dict[str, Any]] = {name: {} for name in ("rest", attack, *(f"penalty.{name}" for name in penalties))}
    for key, value in flat(identity_settings(record.config)).items():
        if value is None or key == STRENGTH:
            continue
        axis, _, inner = key.partition(".")
        name = attack if axis == "attack" else f"penalty.{inner.partition('.')[0]}" if axis == "penalty" else "rest"
        groups[name if name in groups else "rest"][key] = value
    if record.config.get("penalty"):
        groups[STRENGTH] = {STRENGTH: float(record.config.get(STRENGTH, 1.0))}
    return groups


def recipe_of(record: RunRecord) -> str:
    """Return the recipe of a run: a digest for each part, and the strength as a number.

    Returns:
        Such as "rest:… attack.pgd:… penalty.l2:… strength:1".
    """
    groups = recipe_settings(record)
    parts = {name: _digest(values) for name, values in groups.items()}
    parts |= {name: f"{value:g}" for name, value in groups.get(STRENGTH, {}).items()}
    return " ".join(f"{name}:{value}" for name, value in parts.items())


def _digest(values: Mapping[str, Any]) -> str:
    # 1 and 1.0 are the same setting.
    text = repr([(key, float(value) if type(value) is int else value) for key, value in sorted(values.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def parse_recipe(recipe: str) -> Mapping[str, str]:
    """Return the values of a recipe by the name of the part; empty for an unknown recipe ("")."""
    return dict(part.split(":", 1) for part in recipe.split())


def differing_parts(one: str, other: str, ignore: Collection[str] = ()) -> list[str]:
    """Return the parts that two recipes share and in which they differ.

    Args:
        one: a recipe.
        other: another recipe.
        ignore: prefixes of parts that may differ.
    """
    left, right = parse_recipe(one), parse_recipe(other)
    return [name for name in left if left[name] != right.get(name, left[name]) and not name.startswith(tuple(ignore))]
