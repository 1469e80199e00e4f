"""What a cell was made by beside its name: two cells are set against each other where they differ in nothing unnamed."""

import hashlib
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from temper.cell import NOT_IDENTITY
from temper.config import flat
from temper.records import RunRecord
from temper.report.names import parts_of

STRENGTH = "strength"
# Where data lie, whether they may be fetched, and threats that no attack refers to change nothing.
IDLE = ("data.source.root", "data.source.download", "data.threats.")


def ingredients(record: RunRecord) -> dict[str, dict[str, Any]]:
    """A run's settings by dotted keys: those of its attack, of each penalty that it is named by, and the "rest"."""
    own = sorted(parts_of(record.penalty))
    attack = f"attack.{record.attack}"
    groups: dict[str, dict[str, Any]] = {name: {} for name in ("rest", attack, *(f"penalty.{name}" for name in own))}
    for key, value in flat({key: value for key, value in record.config.items() if key not in NOT_IDENTITY}).items():
        if value is None or key == STRENGTH or key.startswith(IDLE):
            continue
        axis, _, inner = key.partition(".")
        name = attack if axis == "attack" else f"penalty.{inner.partition('.')[0]}" if axis == "penalty" else "rest"
        groups[name if name in groups else "rest"][key] = value
    if own:
        groups[STRENGTH] = {STRENGTH: float(record.config.get(STRENGTH, 1.0))}
    return groups


def recipe_of(record: RunRecord) -> str:
    """Digests of the ingredients and the strength as it is, such as "rest:… attack.pgd:… penalty.l2:… strength:1"."""
    groups = ingredients(record)
    parts = {name: hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8] for name, values in groups.items()}
    parts |= {name: f"{value:g}" for name, value in groups.get(STRENGTH, {}).items()}
    return " ".join(f"{name}:{value}" for name, value in parts.items())


@cache
def parsed(recipe: str) -> Mapping[str, str]:
    """By name of the part; none of a recipe that is not known."""
    return dict(part.split(":", 1) for part in recipe.split())


def unlike(one: str, other: str, but: Collection[str] = ()) -> list[str]:
    """In which of the parts that both have two recipes differ.

    Args:
        but: beginnings of what may differ.
    """
    here, there = parsed(one), parsed(other)
    return [name for name in here if here[name] != there.get(name, here[name]) and not name.startswith(tuple(but))]
