"""Marginal effect of a penalty: its average over the penalties that it is combined with, in a design of their subsets."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from temper.report.records.cell_names import penalty_names
from temper.report.statistics.paired_differences import CellKey, Contrast, PairedRuns, share_settings

MIN_PAIRS = 2  # with one pair, the mean is the effect of that penalty alone
Cells = Mapping[tuple[str, frozenset[str]], CellKey]  # of one suite, by attack and penalties


class MarginalEffect(NamedTuple):
    """Mean effect of a penalty over combinations with others, under one attack.

    Attributes:
        attack: attack of training.
        name: name of the penalty.
        suite: suite that evaluated the cells.
        pairs: number of pairs of a cell with the penalty and the same cell without it.
        synergy: whether the effect is the one under the attack minus the one without an attack.
        effect: weights of the cells.
    """

    attack: str
    name: str
    suite: str
    pairs: int
    synergy: bool
    effect: Contrast

    @property
    def cell(self) -> CellKey:
        """Key that represents all cells with the penalty."""
        return CellKey(self.attack, f"{self.name} + any", f"{self.pairs} pairs", "", self.suite)

    @property
    def against(self) -> str:
        """Description of the cells with negative weights."""
        return f"the same cells without {self.name}" + (", and both without the attack" if self.synergy else "")


def marginal_effects(runs: PairedRuns) -> list[MarginalEffect]:
    """Return the marginal effect and the marginal synergy of every attack and penalty.

    There are none where penalties are not combined. Pairs that differ in more than the penalty are left out, for example where
    each cell was tuned to a strength of its own.
    """
    found = []
    for suite in dict.fromkeys(cell.suite for cell in runs.cells):
        cells = _unique_cells(cell for cell in runs.cells if cell.suite == suite)
        attacks = dict.fromkeys(attack for attack, _ in cells)
        names = sorted(set().union(*(penalties for _, penalties in cells)))
        for attack, name in product(attacks, names):
            pairs = [pair for pair in _pairs(cells, attack, name) if share_settings(cells[attack, each] for each in pair)]
            blocks = [pair for pair in pairs if attack != "none" and _is_block(cells, attack, pair)]
            for chosen, signs in ((pairs, {attack: 1.0}), (blocks, {attack: 1.0, "none": -1.0})):
                if len(chosen) >= MIN_PAIRS:
                    effect = _mean_contrast(cells, chosen, signs)
                    found.append(MarginalEffect(attack, name, suite, len(chosen), len(signs) == 2, effect))
    return found


def _unique_cells(cells: Iterable[CellKey]) -> Cells:
    """Return the cells whose name occurs once: several settings of a name are not two levels of a factor."""
    by_name: dict[tuple[str, frozenset[str]], list[CellKey]] = {}
    for cell in cells:
        by_name.setdefault((cell.attack, frozenset(penalty_names(cell.penalty))), []).append(cell)
    return {name: same[0] for name, same in by_name.items() if len(same) == 1}


def _pairs(cells: Cells, attack: str, name: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Yield the penalties of every cell with this penalty, and the same without it, if both are cells."""
    for other, penalties in cells:
        if other == attack and name in penalties and (attack, penalties - {name}) in cells:
            yield penalties, penalties - {name}


def _is_block(cells: Cells, attack: str, pair: tuple[frozenset[str], frozenset[str]]) -> bool:
    """Return whether both cells of a pair also exist without the attack, with the same settings otherwise."""
    corners = [cells.get((name, each)) for name in (attack, "none") for each in pair]
    return None not in corners and share_settings(filter(None, corners))


def _mean_contrast(
    cells: Cells, pairs: Iterable[tuple[frozenset[str], frozenset[str]]], attacks: Mapping[str, float]
) -> dict[CellKey, float]:
    """Return the weights of the mean over pairs of "with minus without", summed over attacks with their signs."""
    pairs = list(pairs)
    signed = [(penalties, sign / len(pairs)) for pair in pairs for penalties, sign in zip(pair, (1.0, -1.0), strict=True)]
    return {cells[attack, penalties]: sign * weight for attack, sign in attacks.items() for penalties, weight in signed}
