"""Which penalties can be together in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temper.penalties.penalty import Place, Stage

if TYPE_CHECKING:
    from temper.penalties.composition import Penalties

# How two penalties that share a place are told to be at odds.
CLASHES = {
    Place.DISPLACES: "both displace the weights at which the loss is taken",
    Place.STANDS_IN: "would both stand in for the trained weights",
}


def check_together(penalties: Penalties) -> None:
    """Whether no two members do what one alone can, and every one that steers finds what it steers.

    Raises:
        ValueError: naming those that are at odds.
    """
    taken: dict[Place, str] = {}
    for name, penalty in penalties:
        if penalty.place is not None and (other := taken.setdefault(penalty.place, name)) != name:
            raise ValueError(f"penalty.{other} and penalty.{name} {CLASHES[penalty.place]}; take one of them")
    steered: dict[str, str] = {}
    for name, penalty in penalties:
        if penalty.stage is not Stage.STEERING:
            continue
        found = penalties.steered_by(penalty)
        for of in getattr(penalty, "of", None) or ():
            if not any(is_or_is_part_of(target, of) for target in found):
                raise ValueError(f"penalty.{name}.of: this run has no penalty {of} that it can steer")
        if not found:
            raise ValueError(f"penalty.{name} steers other penalties, and finds none: list it with one, penalty=[l2,{name}]")
        for target in found:
            if (other := steered.setdefault(target, name)) != name:
                raise ValueError(f"penalty.{other} and penalty.{name} both steer penalty.{target}; name others in `of`")


def is_or_is_part_of(name: str, whole: str) -> bool:
    """Whether a member's dotted name is this one, or lies in the group of this name."""
    return name == whole or name.startswith(f"{whole}.")
