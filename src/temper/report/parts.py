"""What a penalty does on average over those that it is combined with, as a design of all their subsets is made to tell."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from temper.report.paired import Contrast, Key, Runs

FEWEST = 2  # pairs of cells: with one the mean is the effect of that penalty alone
Cells = Mapping[tuple[str, frozenset[str]], Key]  # of one suite, by attack and penalties


class Part(NamedTuple):
    """A penalty with others, under one attack.

    Attributes:
        cell: stands for all cells that have the penalty.
        against: in words, what these are set against.
        effect: the mean of every cell with it minus the same one without.
        synergy: that under this attack minus that without one; None: there is no attack, or too few cells to tell.
    """

    cell: Key
    against: str
    effect: Contrast
    synergy: Contrast | None


def parts(runs: Runs) -> list[Part]:
    """Of every attack and penalty; none where penalties are not combined."""
    found = []
    for suite in dict.fromkeys(cell.suite for cell in runs.cells):
        cells = _once(cell for cell in runs.cells if cell.suite == suite)
        attacks = dict.fromkeys(attack for attack, _ in cells)
        names = sorted(set().union(*(penalties for _, penalties in cells)))
        for attack, name in product(attacks, names):
            pairs = list(_pairs(cells, attack, name))
            squares = [pair for pair in pairs if attack != "none" and {("none", each) for each in pair} <= cells.keys()]
            if len(pairs) >= FEWEST:
                synergy = _mean(cells, squares, {attack: 1.0, "none": -1.0}) if len(squares) >= FEWEST else None
                cell = Key(attack, f"{name} + any", "", "", suite)
                found.append(Part(cell, f"{len(pairs)} cells without {name}", _mean(cells, pairs, {attack: 1.0}), synergy))
    return found


def _once(cells: Iterable[Key]) -> Cells:
    """Those that are the only ones of their name: several settings of one are no two levels."""
    by_name: dict[tuple[str, frozenset[str]], list[Key]] = {}
    for cell in cells:
        by_name.setdefault((cell.attack, frozenset(cell.penalty.split(" + ")) - {"none"}), []).append(cell)
    return {name: same[0] for name, same in by_name.items() if len(same) == 1}


def _pairs(cells: Cells, attack: str, name: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """The penalties of every cell that has this one, and the same without it, where that is a cell too."""
    for other, penalties in cells:
        if other == attack and name in penalties and (attack, penalties - {name}) in cells:
            yield penalties, penalties - {name}


def _mean(
    cells: Cells, pairs: Iterable[tuple[frozenset[str], frozenset[str]]], attacks: Mapping[str, float]
) -> dict[Key, float]:
    """The weights of with minus without, added over attacks, a mean over pairs."""
    pairs = list(pairs)
    signed = [(penalties, sign / len(pairs)) for pair in pairs for penalties, sign in zip(pair, (1.0, -1.0), strict=True)]
    return {cells[attack, penalties]: weight * share for attack, weight in attacks.items() for penalties, share in signed}
