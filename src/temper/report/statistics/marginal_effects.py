"""What a penalty does on average over those that it is combined with, as a design of all their subsets is made to tell."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from temper.report.records.cell_names import parts_of
from temper.report.statistics.paired_differences import CellKey, Contrast, PairedRuns, are_alike

FEWEST = 2  # pairs of cells: with one the mean is the effect of that penalty alone
Cells = Mapping[tuple[str, frozenset[str]], CellKey]  # of one suite, by attack and penalties


class MarginalEffect(NamedTuple):
    """A penalty with others, under one attack.

    Attributes:
        attack, name: of training, and of the penalty.
        suite: under which the cells were evaluated.
        pairs: how many cells that have it are set against the same one without it.
        synergy: whether the effect is that under the attack minus that without one.
        effect: their mean.
    """

    attack: str
    name: str
    suite: str
    pairs: int
    synergy: bool
    effect: Contrast

    @property
    def cell(self) -> CellKey:
        """Stands for all cells that have the penalty."""
        return CellKey(self.attack, f"{self.name} + any", f"{self.pairs} pairs", "", self.suite)

    @property
    def against(self) -> str:
        """In words."""
        return f"the same cells without {self.name}" + (", and both without the attack" if self.synergy else "")


def marginal_effects(runs: PairedRuns) -> list[MarginalEffect]:
    """Of every attack and penalty, the effect and the synergy; none where penalties are not combined. Pairs that differ in more
    than the penalty, as when each cell was tuned to a strength of its own, are left out."""
    found = []
    for suite in dict.fromkeys(cell.suite for cell in runs.cells):
        cells = _once(cell for cell in runs.cells if cell.suite == suite)
        attacks = dict.fromkeys(attack for attack, _ in cells)
        names = sorted(set().union(*(penalties for _, penalties in cells)))
        for attack, name in product(attacks, names):
            pairs = [pair for pair in _pairs(cells, attack, name) if are_alike(cells[attack, each] for each in pair)]
            squares = [pair for pair in pairs if attack != "none" and _is_square(cells, attack, pair)]
            for several, signs in ((pairs, {attack: 1.0}), (squares, {attack: 1.0, "none": -1.0})):
                if len(several) >= FEWEST:
                    effect = _mean(cells, several, signs)
                    found.append(MarginalEffect(attack, name, suite, len(several), len(signs) == 2, effect))
    return found


def _once(cells: Iterable[CellKey]) -> Cells:
    """Those that are the only ones of their name: several settings of one are no two levels."""
    by_name: dict[tuple[str, frozenset[str]], list[CellKey]] = {}
    for cell in cells:
        by_name.setdefault((cell.attack, frozenset(parts_of(cell.penalty))), []).append(cell)
    return {name: same[0] for name, same in by_name.items() if len(same) == 1}


def _pairs(cells: Cells, attack: str, name: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """The penalties of every cell that has this one, and the same without it, where that is a cell too."""
    for other, penalties in cells:
        if other == attack and name in penalties and (attack, penalties - {name}) in cells:
            yield penalties, penalties - {name}


def _is_square(cells: Cells, attack: str, pair: tuple[frozenset[str], frozenset[str]]) -> bool:
    """Whether both are there without the attack too, alike in all else."""
    corners = [cells.get((name, each)) for name in (attack, "none") for each in pair]
    return None not in corners and are_alike(filter(None, corners))


def _mean(
    cells: Cells, pairs: Iterable[tuple[frozenset[str], frozenset[str]]], attacks: Mapping[str, float]
) -> dict[CellKey, float]:
    """The weights of with minus without, added over attacks, a mean over pairs."""
    pairs = list(pairs)
    signed = [(penalties, sign / len(pairs)) for pair in pairs for penalties, sign in zip(pair, (1.0, -1.0), strict=True)]
    return {cells[attack, penalties]: weight * share for attack, weight in attacks.items() for penalties, share in signed}
