"""What a study lacks for a claim to be judged, and the command that makes it."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from temper.report.records.cell_names import Option, without
from temper.report.records.run_setup import Setup
from temper.report.statistics.contrasts import Side, allows
from temper.report.statistics.paired_differences import PairedRuns

# Of `any`, where the study has none of its own.
DEFAULTS = {"attack": "pgd", "penalty": "l2"}
OTHERWISE = "dropout"  # where every cell has that penalty
# Evaluation suites that measure what the standard one leaves out.
SUITES = {"corruptions/": "corruptions", "curve/": "curve", "test/minimal_norm": "full"}


def cells_lacking(runs: PairedRuns, sides: Sequence[Side], study: str, setup: Setup, *, steered: bool = False) -> str:
    """The cells that would make one pair of two sides, or the square of one, as far as the study lacks them, and the commands
    that make them, as Markdown; no command where the study's data are none for them.

    Args:
        sides: of and against; or the one of a synergy.
        steered: the parts that a penalty is to hold do nothing without another one.
    """
    attack = _option(runs, "attack", sides[0].attack, setup)
    penalty = _option(runs, "penalty", sides[0].penalty, setup, DEFAULTS["penalty"] if steered else "none")
    if len(sides) == 1:
        wanted = list(product(("none", attack), ("none", penalty)))
    else:
        of, against = sides
        other_attack = attack if of.attack == against.attack else _option(runs, "attack", against.attack, setup)
        if against.penalty == "without":
            other_penalty = without(penalty, of.penalty)
        else:
            other_penalty = penalty if of.penalty == against.penalty else _option(runs, "penalty", against.penalty, setup)
        wanted = [(attack, penalty), (other_attack, other_penalty)]
    there = {(cell.attack, cell.penalty) for cell in runs.cells}
    missing = [cell for cell in wanted if cell not in there]
    if not missing:
        return "cells under one suite that differ in nothing else"
    names = ", ".join(f"{a} x {p}" for a, p in missing)
    if within := [name for _, p in missing for name in p.split(" + ") if name in setup.baseline]:
        return f"{names}, and {within[0]} is in every cell"
    if not all(setup.suits(p) for _, p in missing):
        return f"{names}, which is for images alone"
    return f"{names}: {'; '.join(f'`{command}`' for command in _commands(missing, study, setup, runs.seeds))}"


def metric_lacking(metric: str, study: str, setup: Setup) -> str:
    """That no run has a metric, and which evaluation would measure it, as Markdown."""
    suite = next((suite for start, suite in SUITES.items() if metric.startswith(start)), None)
    if suite is None:
        return f"{metric}, which no run has"
    if not setup.suits(suite):
        return f"{metric}, which no suite for such data measures"
    norm = "" if setup.norm == "linf" else f" evaluation.norm={setup.norm}"
    return f"{metric}: `temper-evaluate path=outputs/{study} evaluation={suite}{norm}`"


def _option(runs: PairedRuns, axis: str, option: Option, setup: Setup, base: str = "none") -> str:
    """An attack or penalty that a side allows: the study's first, or one that would do."""
    names = [getattr(cell, axis) for cell in runs.cells]
    known = next((name for name in names if allows(axis, option, name)), None)
    if known is not None:
        return str(known)
    if option == "any":
        if axis == "penalty" and DEFAULTS[axis] in setup.baseline:
            return OTHERWISE
        return DEFAULTS[axis] + (f"_{setup.norm}" if axis == "attack" and setup.norm != "linf" else "")
    return option if isinstance(option, str) else " + ".join(sorted({option[0], base} - {"none"}))


def _commands(cells: Sequence[tuple[str, str]], study: str, setup: Setup, seeds: Sequence[int]) -> list[str]:
    attacks = defaultdict(list)
    for attack, penalty in cells:
        attacks[penalty].append(attack)
    lines = []
    for penalty, names in attacks.items():
        parts = [*setup.baseline, *(name for name in penalty.split(" + ") if name != "none")]
        chosen = f"[{','.join(parts)}]" if setup.baseline or len(parts) > 1 else penalty
        axes = [f"attack={','.join(names)}", f"penalty={chosen}", f"seed={','.join(map(str, seeds))}"]
        several = ["-m"] if len(names) > 1 or len(seeds) > 1 else []
        lines.append(shlex.join(["temper-train", *setup.overrides, f"study={study}", *axes, *several]))
    return lines
