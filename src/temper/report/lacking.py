"""What a study lacks for a claim to be judged, and the command that makes it."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from temper.report.paired import Runs
from temper.report.sides import Option, Side, allows, without

# Of `any`, where the study has none of its own.
DEFAULTS = {"attack": "pgd", "penalty": "l2"}
# Evaluation suites that measure what the standard one leaves out.
SUITES = {"corruptions/": "corruptions", "curve/": "curve", "test/minimal_norm": "full"}


def cells_lacking(runs: Runs, sides: Sequence[Side], study: str, *, steered: bool = False) -> str:
    """The cells that would make one pair of two sides, or the square of one, as far as the study lacks them.

    Args:
        sides: of and against; or the one of a synergy.
        steered: the parts that a penalty is to hold do nothing without another one.
    """
    attack = _option(runs, "attack", sides[0].attack, "none")
    penalty = _option(runs, "penalty", sides[0].penalty, DEFAULTS["penalty"] if steered else "none")
    if len(sides) == 1:
        wanted = list(product(("none", attack), ("none", penalty)))
    else:
        of, against = sides
        other_attack = attack if of.attack == against.attack else _option(runs, "attack", against.attack, "none")
        if against.penalty == "without":
            other_penalty = without(penalty, of.penalty)
        else:
            other_penalty = penalty if of.penalty == against.penalty else _option(runs, "penalty", against.penalty, "none")
        wanted = [(attack, penalty), (other_attack, other_penalty)]
    there = {(cell.attack, cell.penalty) for cell in runs.cells}
    missing = [cell for cell in wanted if cell not in there]
    if not missing:
        return "cells under one suite that differ in nothing else"
    names = ", ".join(f"{a} x {p}" for a, p in missing)
    return f"{names}: {'; '.join(_commands(missing, study, runs.seeds))}"


def metric_lacking(metric: str, study: str) -> str:
    """That no run has a metric, and which evaluation would measure it."""
    suite = next((suite for start, suite in SUITES.items() if metric.startswith(start)), None)
    return metric + (f": temper-evaluate path=outputs/{study} evaluation={suite}" if suite else ", which no run has")


def _option(runs: Runs, axis: str, option: Option, base: str) -> str:
    """An attack or penalty that a side allows: the study's first, or one that would do."""
    names = [getattr(cell, axis) for cell in runs.cells]
    known = next((name for name in names if allows(axis, option, name)), None)
    if known is not None:
        return str(known)
    if isinstance(option, str):
        return DEFAULTS[axis] if option == "any" else option
    return " + ".join(sorted({option[0], base} - {"none"}))


def _commands(cells: Sequence[tuple[str, str]], study: str, seeds: Sequence[int]) -> list[str]:
    attacks = defaultdict(list)
    for attack, penalty in cells:
        attacks[penalty].append(attack)
    lines = []
    for penalty, names in attacks.items():
        chosen = f"penalty={penalty}" if " + " not in penalty else f"'penalty=[{penalty.replace(' + ', ',')}]'"
        axes = f"attack={','.join(names)} {chosen} seed={','.join(map(str, seeds))}"
        lines.append(f"temper-train study={study} {axes}" + (" -m" if len(names) > 1 or len(seeds) > 1 else ""))
    return lines
