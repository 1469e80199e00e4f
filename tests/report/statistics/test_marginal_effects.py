"""Marginal effects of combined penalties: closed forms, and the coefficients of a linear model."""

import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from temper.report import make_report
from temper.report.figures.penalty_effects import mean_effects, penalty_effects_figure
from temper.report.statistics.effects import effects_table
from temper.report.statistics.marginal_effects import marginal_effects
from temper.report.statistics.paired_differences import PairedRuns
from tests.report.statistics.test_paired_differences import Cells, numbers
from tests.report.test_pipeline import RUNS, finished_run, write_study

NAMES = ("dropout", "ema", "l2")
SUBSETS = [subset for size in range(4) for subset in combinations(NAMES, size)]
SEEDS = 4


def penalty_name(subset: tuple[str, ...]) -> str:
    return " + ".join(subset) or "none"


@pytest.fixture
def factorial() -> Cells:
    """Return every subset of three penalties, with an attack and without."""
    draw = np.random.default_rng(0)
    return {
        (attack, penalty_name(subset)): draw.uniform(0.1, 0.9, SEEDS).tolist()
        for attack, subset in product(("none", "pgd"), SUBSETS)
    }


def test_marginal_effects_are_the_coefficients_of_a_linear_model(factorial: Cells) -> None:
    """Code the factors of a balanced design as -1/2 and +1/2: its coefficients are main effects and interactions."""
    rows = [
        {"value": value, "pgd": 0.5 if attack == "pgd" else -0.5}
        | {n: 0.5 if n in penalty.split(" + ") else -0.5 for n in NAMES}
        for (attack, penalty), values in factorial.items()
        for value in values
    ]
    table = pd.DataFrame(rows)
    both = ols("value ~ pgd * (dropout + ema + l2)", table).fit().params
    found = effects_table(PairedRuns.of(numbers(factorial)), {}, examples=1000)
    by_effect = found[found.scale == "share"].set_index(["effect", "cell"])["mean"]
    for name in NAMES:
        means = [by_effect["part", f"{attack} x {name} + any (4 pairs)"] for attack in ("none", "pgd")]
        assert np.mean(means) == pytest.approx(both[name])
        assert by_effect["part synergy", f"pgd x {name} + any (4 pairs)"] == pytest.approx(both[f"pgd:{name}"])
        assert by_effect["part synergy", f"pgd x {name} + any (4 pairs)"] == pytest.approx(means[1] - means[0])
    assert set(found[found.effect.str.startswith("part")].scale) == {"share", "logit"}


def test_pairs_differ_only_in_the_penalty(factorial: Cells) -> None:
    (found, *_) = marginal_effects(PairedRuns.of(numbers(factorial)))
    assert found.cell.name == "none x dropout + any (4 pairs)" and not found.synergy
    with_it = {cell.penalty for cell, weight in found.effect.items() if weight > 0}
    assert with_it == {"dropout", "dropout + ema", "dropout + l2", "dropout + ema + l2"}
    assert set(found.effect.values()) == {0.25, -0.25}


def test_a_single_pair_has_no_marginal_effect(factorial: Cells) -> None:
    few = {name: values for name, values in factorial.items() if name[1] in ("none", "l2", "ema", "ema + l2")}
    of_both = [
        ("none", "ema", False),
        ("none", "l2", False),
        *(("pgd", n, synergy) for n in ("ema", "l2") for synergy in (False, True)),
    ]
    assert [(part.attack, part.name, part.synergy) for part in marginal_effects(PairedRuns.of(numbers(few)))] == of_both
    del few["none", "ema + l2"], few["none", "ema"]
    assert [(part.attack, part.name, part.synergy) for part in marginal_effects(PairedRuns.of(numbers(few)))] == [
        ("pgd", "ema", False),
        ("pgd", "l2", False),
    ]
    separate = {name: values for name, values in factorial.items() if " + " not in name[1]}
    assert marginal_effects(PairedRuns.of(numbers(separate))) == []


def test_several_settings_of_a_name_are_left_out(factorial: Cells) -> None:
    both = pd.concat([numbers(factorial), numbers({("none", "dropout"): [0.5] * SEEDS}, setting="strength=2")])
    (found, *_) = marginal_effects(PairedRuns.of(both))
    assert found.pairs == 3


def test_missing_cells_reduce_the_number_of_pairs(factorial: Cells) -> None:
    del factorial["none", "l2"]
    pairs = {(part.attack, part.name, part.synergy): part.pairs for part in marginal_effects(PairedRuns.of(numbers(factorial)))}
    assert (pairs["none", "dropout", False], pairs["pgd", "dropout", False], pairs["pgd", "dropout", True]) == (3, 4, 3)
    assert {one.penalty for one in mean_effects(numbers(factorial))} >= {"dropout (3 pairs)", "dropout (4 pairs)"}


def test_separately_tuned_cells_are_left_out(factorial: Cells) -> None:
    tables = [
        numbers({name: values}, recipe=f"rest:0 strength:{place}" if name[1] != "none" else "rest:0")
        for place, (name, values) in enumerate(factorial.items())
    ]
    assert marginal_effects(PairedRuns.of(pd.concat(tables))) == []


def test_pairs_that_differ_in_more_are_left_out(factorial: Cells) -> None:
    odd = ("none", "dropout + ema")
    tables = [numbers({name: values}, recipe="rest:1" if name == odd else "rest:0") for name, values in factorial.items()]
    pairs = {(part.attack, part.name, part.synergy): part.pairs for part in marginal_effects(PairedRuns.of(pd.concat(tables)))}
    assert (pairs["none", "dropout", False], pairs["none", "l2", False], pairs["pgd", "dropout", False]) == (3, 3, 4)
    assert pairs["pgd", "dropout", True] == 3


def test_the_figure_shows_effects_with_intervals(factorial: Cells) -> None:
    data = numbers(factorial)
    found = effects_table(PairedRuns.of(data), {})
    shown = mean_effects(data)
    assert len(shown) == 2 * len(NAMES)
    for one in shown:
        row = found[(found.effect == "part") & (found.cell == f"{one.attack} x {one.penalty} + any (4 pairs)")]
        assert (one.mean, one.low, one.high) == pytest.approx(100 * row[["mean", "low", "high"]].to_numpy()[0])
    figure = penalty_effects_figure(shown)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(NAMES)
    assert figure.axes[0].get_xlabel() == "change in robust accuracy, worst case (points)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["attack: none", "attack: pgd"]


def test_one_seed_has_no_interval_in_the_figure(factorial: Cells) -> None:
    shown = mean_effects(numbers({name: values[:1] for name, values in factorial.items()}))
    assert len(shown) == 2 * len(NAMES) and all(math.isnan(one.low) for one in shown)
    penalty_effects_figure(shown).draw_without_rendering()
    assert mean_effects(numbers({name: v for name, v in factorial.items() if " + " not in name[1]})) == []


def test_a_report_defines_marginal_effects(tmp_path: Path) -> None:
    subsets = ("none", "dropout", "l2", "dropout + l2")
    records = [
        finished_run(attack, penalty, seed, 0.9, 0.5 + 0.01 * place + 0.001 * seed, digest=f"{attack}{place}")
        for attack in ("none", "pgd")
        for place, penalty in enumerate(subsets)
        for seed in (0, 1)
    ]
    make_report(write_study(tmp_path, records), tmp_path / "results")
    for name in ("index.html", "table.md"):
        text = (tmp_path / "results" / name).read_text()
        assert "Marginal: effect of a penalty that is combined with others" in text and "pgd x l2 + any (2 pairs)" in text
    assert (tmp_path / "results/parts.png").is_file()
    make_report(write_study(tmp_path / "apart", RUNS), tmp_path / "without")
    assert "Marginal: effect" not in (tmp_path / "without/index.html").read_text()
