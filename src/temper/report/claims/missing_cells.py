"""Cells and metrics that a study needs to evaluate a claim, and the commands that produce them."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from temper.report.records.cell_names import Option, drop_penalties
from temper.report.records.run_setup import RunSetup
from temper.report.statistics.contrasts import Side, option_matches
from temper.report.statistics.paired_differences import PairedRuns

# Options to train for `any`, if the study has none.
DEFAULTS = {"attack": "pgd", "penalty": "l2"}
FALLBACK_PENALTY = "dropout"  # if the default penalty is part of the baseline
# Evaluation suites for metrics that the standard suite does not measure, by prefix of the metric.
SUITES = {"corruptions/": "corruptions", "curve/": "curve", "test/minimal_norm": "full"}


def commands_for_missing_cells(
    runs: PairedRuns, sides: Sequence[Side], study: str, setup: RunSetup, *, needs_base: bool = False
) -> str:
    """Return the missing cells of one pair, or of one factorial block, and the commands that train them.

    Args:
        runs: metrics of the study.
        sides: both sides of a contrast, or the side of a synergy.
        study: name of the study.
        setup: setup of its runs.
        needs_base: whether the listed penalties only act on another penalty, as a controller of its weight does.

    Returns:
        Markdown text, without a command if no run with the setup of the study can be such a cell.
    """
    attack = _option(runs, "attack", sides[0].attack, setup)
    penalty = _option(runs, "penalty", sides[0].penalty, setup, DEFAULTS["penalty"] if needs_base else "none")
    if len(sides) == 1:
        wanted = list(product(("none", attack), ("none", penalty)))
    else:
        of, against = sides
        other_attack = attack if of.attack == against.attack else _option(runs, "attack", against.attack, setup)
        if against.penalty == "without":
            other_penalty = drop_penalties(penalty, of.penalty)
        else:
            other_penalty = penalty if of.penalty == against.penalty else _option(runs, "penalty", against.penalty, setup)
        wanted = [(attack, penalty), (other_attack, other_penalty)]
    present = {(cell.attack, cell.penalty) for cell in runs.cells}
    missing = [cell for cell in wanted if cell not in present]
    if not missing:
        return "cells under one suite whose other settings are equal"
    names = ", ".join(f"{a} x {p}" for a, p in missing)
    if shared := [name for _, p in missing for name in p.split(" + ") if name in setup.baseline]:
        return f"{names} (impossible here: every cell has {shared[0]})"
    if not all(setup.supports(p) for _, p in missing):
        return f"{names} (defined for images only)"
    return f"{names}: {'; '.join(f'`{command}`' for command in _commands(missing, study, setup, runs.seeds))}"


def command_for_missing_metric(metric: str, study: str, setup: RunSetup) -> str:
    """Return a missing metric, and the command for the evaluation that measures it, as Markdown.

    Args:
        metric: name of the metric.
        study: name of the study.
        setup: setup of its runs.
    """
    suite = next((suite for prefix, suite in SUITES.items() if metric.startswith(prefix)), None)
    if suite is None:
        return f"{metric} (no run has this metric)"
    if not setup.supports(suite):
        return f"{metric} (no suite measures it for these data)"
    norm = "" if setup.norm == "linf" else f" evaluation.norm={setup.norm}"
    return f"{metric}: `temper-evaluate path=outputs/{study} evaluation={suite}{norm}`"


def _option(runs: PairedRuns, axis: str, option: Option, setup: RunSetup, base: str = "none") -> str:
    """Return an attack or penalty that a side includes: the first in the study, or a default."""
    for cell in runs.cells:
        name = getattr(cell, axis)
        if option_matches(axis, option, name):
            return str(name)
    if option == "any":
        if axis == "penalty" and DEFAULTS[axis] in setup.baseline:
            return FALLBACK_PENALTY
        return DEFAULTS[axis] + (f"_{setup.norm}" if axis == "attack" and setup.norm != "linf" else "")
    return option if isinstance(option, str) else " + ".join(sorted({option[0], base} - {"none"}))


def _commands(cells: Sequence[tuple[str, str]], study: str, setup: RunSetup, seeds: Sequence[int]) -> list[str]:
    attacks = defaultdict(list)
    for attack, penalty in cells:
        attacks[penalty].append(attack)
    lines = []
    for penalty, names in attacks.items():
        parts = [*setup.baseline, *(name for name in penalty.split(" + ") if name != "none")]
        chosen = f"[{','.join(parts)}]" if setup.baseline or len(parts) > 1 else penalty
        axes = [f"attack={','.join(names)}", f"penalty={chosen}", f"seed={','.join(map(str, seeds))}"]
        multirun = ["-m"] if len(names) > 1 or len(seeds) > 1 else []
        lines.append(shlex.join(["temper-train", *setup.overrides, f"study={study}", *axes, *multirun]))
    return lines
