"""Statistics: comparison with other libraries, closed forms, coverage in simulated studies, invariants."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from temper.report.records.long_format import COLUMNS
from temper.report.records.per_example import Outcomes
from temper.report.statistics.bootstrap import hierarchical, over_images
from temper.report.statistics.effects import effects_table
from temper.report.statistics.factorial import factorial_blocks, floor_notes, on_logit_scale, two_way_anova
from temper.report.statistics.metric_catalogue import is_accuracy, resolution
from temper.report.statistics.paired_differences import PairedRuns, hedges_correction, holm, mean_of_pairs, summarize
from temper.report.statistics.pareto import is_non_dominated, pareto_table
from temper.report.statistics.power import seeds_needed

KINDS = {
    (False, False): "standard",
    (True, False): "adversarial",
    (False, True): "regularized",
    (True, True): "combined",
}
Cells = dict[tuple[str, str], list[float]]


def numbers(cells: Cells, metric: str = "test/worst_case", setting: str = "", recipe: str = "") -> pd.DataFrame:
    """Return rows of a frame: one value per seed of one metric, by attack and penalty."""
    rows = [
        ["s", attack, penalty, setting, KINDS[attack != "none", penalty != "none"], f"{attack}-{penalty}", *run, metric, value]
        for (attack, penalty), values in cells.items()
        for run, value in ((("standard-0", recipe, seed, "last"), value) for seed, value in enumerate(values))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def factorial_cells(standard: float, regularized: float, adversarial: float, combined: float, noise: np.ndarray) -> Cells:
    """Return four cells with these means and noise, (4, S)."""
    names = [("none", "none"), ("none", "l2"), ("pgd", "none"), ("pgd", "l2")]
    means = (standard, regularized, adversarial, combined)
    return {name: (mean + row).tolist() for name, mean, row in zip(names, means, noise, strict=True)}


def test_paired_differences_equal_those_of_scipy() -> None:
    a, b = np.random.default_rng(0).normal(0.5, 0.1, (2, 6))
    runs = PairedRuns.of(numbers({("none", "none"): b.tolist(), ("pgd", "none"): a.tolist()}))
    found = effects_table(runs, {}).iloc[0]
    other = stats.ttest_rel(a, b)
    assert (found.effect, found.cell, found.against, found.n) == ("attack", "pgd x none", "none x none", 6)
    assert (found.low, found.high) == pytest.approx(tuple(other.confidence_interval()))
    assert found.p == pytest.approx(other.pvalue) and found.d_z == pytest.approx(other.statistic / math.sqrt(6))
    assert found.g == pytest.approx(found.d_z * (1 - 3 / (4 * 5 - 1)), rel=0.01), "the usual approximation of Hedges' J"


def test_hedges_correction_is_unbiased() -> None:
    samples = np.random.default_rng(0).normal(1.0, 1, (20_000, 5))
    d = samples.mean(1) / samples.std(1, ddof=1)
    assert d.mean() > 1.2 and d.mean() * hedges_correction(5) == pytest.approx(1, abs=0.02)


def test_one_seed_gives_a_mean_and_no_interval() -> None:
    found = summarize(np.array([[0.3, np.nan], [np.nan, np.nan], [0.1, 0.3]]))
    assert found.n.tolist() == [1, 0, 2] and found["mean"][0] == 0.3 and found.iloc[0, 2:].isna().all()
    assert found.iloc[1, 1:].isna().all() and math.isnan(found.g[2]) and found.low[2] < 0.2 < found.high[2]


def test_a_count_without_variance_is_exact() -> None:
    found = summarize(np.array([[7.0, 7, 7], [0, 0, 0]]))
    assert found.low.tolist() == found.high.tolist() == [7, 0] and found[["d_z", "g", "p"]].isna().all(axis=None)
    assert resolution("cost/gradient_evaluations") == 0


def test_identical_accuracies_are_known_up_to_one_image() -> None:
    # 0.3 - 0.1 and 0.8 - 0.6 differ by rounding only, which is no variance.
    found = summarize(np.array([[0.3 - 0.1, 0.8 - 0.6, 0.2]] * 3), resolution=np.array([1 / 2, 1 / 1000, np.nan]))
    for row, step in enumerate((1 / 2, 1 / 1000)):
        other = stats.ttest_1samp(0.2 + step * np.array([-1, 0, 1]), 0)  # with mean 0.2 and this standard deviation
        assert (found.low[row], found.high[row]) == pytest.approx(tuple(other.confidence_interval()))
        assert found.p[row] == pytest.approx(other.pvalue)
    assert found.low[0] < 0 < found.low[1] and found.sd.tolist() == [0, 0, 0]
    assert found.iloc[2][["low", "high", "d_z", "p"]].isna().all(), "an unknown resolution decides nothing"
    assert resolution("best:test/pgd", 450) == resolution("gap/clean", 450) == resolution("curve/area", 450) == 1 / 450
    assert math.isnan(resolution("test/pgd")) and math.isnan(resolution("weights/norm", 450))


def test_the_interval_has_its_nominal_coverage() -> None:
    samples = np.random.default_rng(0).normal(0.07, 0.02, (2000, 5))
    found = summarize(samples)
    assert ((found.low < 0.07) & (found.high > 0.07)).mean() == pytest.approx(0.95, abs=0.015)
    assert (summarize(samples, null=0.07).p < 0.05).mean() == pytest.approx(0.05, abs=0.015)


series = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=2, max_size=8)


@settings(deadline=None)
@given(series)
def test_swapping_the_sides_flips_the_sign(values: list[float]) -> None:
    one, other = (summarize(np.array([sign * np.array(values)])).iloc[0] for sign in (1, -1))
    assert one["mean"] == pytest.approx(-other["mean"]) and one.p == pytest.approx(other.p, nan_ok=True)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@settings(deadline=None)
@given(series.flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
def test_the_order_of_seeds_does_not_matter(both: tuple[list[float], list[float]]) -> None:
    one, other = (summarize(np.array([values])).iloc[0] for values in both)
    assert one[["mean", "sd", "low", "high"]].to_numpy() == pytest.approx(other[["mean", "sd", "low", "high"]].to_numpy())


def test_holm_corrects_within_a_family() -> None:
    p = pd.Series([0.01, 0.04, 0.03, np.nan, 0.04])
    corrected = holm(p, pd.Series(["a", "a", "a", "a", "b"]))
    assert corrected.tolist() == pytest.approx([0.03, 0.06, 0.06, np.nan, 0.04], nan_ok=True)


def test_a_mean_of_pairs_uses_the_same_pairs_for_every_seed() -> None:
    found = mean_of_pairs([np.array([1.0, 2, 3]), np.array([3.0, np.nan, 5]), np.full(3, np.nan)])
    assert found.tolist() == pytest.approx([2, np.nan, 4], nan_ok=True)


def test_partners_agree_in_all_settings_outside_the_axis() -> None:
    swept = [
        numbers({(a, "l2"): [v]}, setting=f"strength={s}", recipe=f"rest:0 attack.{a}:1 penalty.l2:2 strength:{s}")
        for a, v in (("none", 0.1), ("pgd", 0.7))
        for s in (1, 3)
    ]
    plain = [numbers({(a, "none"): [0.1]}, recipe=f"rest:0 attack.{a}:1") for a in ("none", "pgd")]
    runs = PairedRuns.of(pd.concat([*swept, *plain]))
    strong = next(cell for cell in runs.cells if cell.name == "pgd x l2 (strength=3)")
    assert [each.name for each in runs.partners(strong, {"attack": "none"})] == ["none x l2 (strength=3)"]
    assert [each.name for each in runs.partners(strong, {"penalty": "none"})] == ["pgd x none"]
    assert len(factorial_blocks(runs)) == 2 and not effects_table(runs, {}).note.any()


@pytest.mark.parametrize(
    ("combined", "others"),
    [
        ("rest:1 attack.pgd:1 penalty.l2:1 strength:1", "rest:2 attack.{a}:1 penalty.l2:1 strength:1"),  # another width
        (
            "rest:1 attack.pgd:1 penalty.l2:1 strength:1",
            "rest:1 attack.{a}:2 penalty.l2:2 strength:1",
        ),  # other steps and another weight
    ],
)
def test_cells_that_differ_in_more_than_their_names_are_not_compared(combined: str, others: str) -> None:
    names = [("none", "none"), ("none", "l2"), ("pgd", "none")]
    data = [numbers({(a, p): [0.1, 0.2]}, recipe=others.format(a=a)) for a, p in names]
    runs = PairedRuns.of(pd.concat([*data, numbers({("pgd", "l2"): [0.5, 0.7]}, recipe=combined)]))
    found = effects_table(runs, {})
    assert "pgd x l2" not in set(found.cell) and set(found.cell) == {"none x l2", "pgd x none"}
    assert not factorial_blocks(runs) and two_way_anova(runs, "test/worst_case") is None


def test_separately_tuned_strengths_are_noted() -> None:
    strengths = {("none", "l2"): 10, ("pgd", "l2"): 0.1}
    recipes = {name: f"rest:1 penalty.l2:1 strength:{strength}" for name, strength in strengths.items()}
    cells = factorial_cells(0.2, 0.25, 0.7, 0.85, np.random.default_rng(0).normal(0, 0.01, (4, 3)))
    runs = PairedRuns.of(pd.concat([numbers({name: cells[name]}, recipe=recipes.get(name, "rest:1")) for name in cells]))
    notes = effects_table(runs, {}).groupby(["effect", "cell"]).note.first()
    note = "strengths differ: 0.1 in pgd x l2, 10 in none x l2"
    assert notes["synergy", "pgd x l2"] == notes["attack", "pgd x l2"] == note
    assert notes["penalty", "pgd x l2"] == notes["attack", "pgd x none"] == "", "only one of the two cells has a penalty"
    assert two_way_anova(runs, "test/worst_case") is None


def test_the_bootstrap_error_is_that_of_a_mean_of_clusters() -> None:
    generator = np.random.default_rng(0)
    accuracies = generator.uniform(0.2, 0.8, (8, 1))
    images = (generator.random((8, 500)) < accuracies).astype(float)
    expected = math.sqrt((images.mean(1).var() + images.var(1).mean() / 500) / 8)
    found = hierarchical(images, repeats=20_000)
    assert found.error == pytest.approx(expected, rel=0.03)
    assert (found.low + found.high) / 2 == pytest.approx(images.mean(), abs=expected / 5)
    assert math.isnan(hierarchical(images[:1]).error), "one seed has no variance"


def test_the_error_of_sampling_images_is_that_of_their_mean() -> None:
    images = np.random.default_rng(0).integers(-1, 2, (4, 500)).astype(float)
    images[1:] = images[0]  # equal seeds add no images
    resampled = np.random.default_rng(1).choice(images.mean(0), (5000, 500)).mean(1)
    assert over_images(images) == pytest.approx(resampled.std(), rel=0.03)


def test_images_are_resampled_in_pairs_for_the_chosen_metrics() -> None:
    right = np.random.default_rng(0).random((2, 3, 200)) < 0.5
    runs = PairedRuns.of(numbers({("none", "none"): right[0].mean(1).tolist(), ("pgd", "none"): right[1].mean(1).tolist()}))
    outcomes: Outcomes = {
        (f"{attack}-none", "standard-0", seed): {"test/worst_case": right[position, seed]}
        for position, attack in enumerate(("none", "pgd"))
        for seed in range(3)
    }
    found = effects_table(runs, outcomes, ["test/worst_case"]).iloc[0]
    differences = right[1].astype(float) - right[0]
    assert found.resampled_low < found["mean"] < found.resampled_high
    assert found.images_sd == pytest.approx(over_images(differences))
    assert math.isnan(effects_table(runs, outcomes).iloc[0].images_sd)


def test_main_effects_and_synergy_of_a_known_block() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, (4, 5))
    runs = PairedRuns.of(numbers(factorial_cells(0.2, 0.25, 0.7, 0.85, noise)))
    found = effects_table(runs, {}, examples=1000).set_index(["effect", "scale"])
    assert found.loc[("main attack", "share"), "mean"] == pytest.approx(0.55, abs=0.002)
    assert found.loc[("main penalty", "share"), "mean"] == pytest.approx(0.1, abs=0.002)
    assert found.loc[("synergy", "share"), "mean"] == pytest.approx(0.1, abs=0.003)


def test_additive_log_odds_have_no_synergy_on_the_logit_scale() -> None:
    standard, regularized, adversarial, combined = (1 / (1 + math.exp(-x)) for x in (-2.0, -1.0, 0.5, 1.5))
    runs = PairedRuns.of(numbers(factorial_cells(standard, regularized, adversarial, combined, np.zeros((4, 3)))))
    found = effects_table(runs, {}, examples=10**7).set_index(["effect", "scale"])
    assert found.loc[("synergy", "logit"), "mean"] == pytest.approx(0, abs=1e-4)
    assert found["mean"]["synergy", "share"] == pytest.approx(combined - adversarial - regularized + standard)


def test_the_interval_of_the_synergy_has_its_nominal_coverage() -> None:
    generator, summaries = np.random.default_rng(0), []
    for _ in range(300):
        runs = PairedRuns.of(numbers(factorial_cells(0.2, 0.3, 0.6, 0.75, generator.normal(0, 0.02, (4, 5)))))
        contrast = factorial_blocks(runs)[0].effects["synergy"]
        summaries.append(summarize(runs.difference(contrast).T).iloc[0])
    intervals = pd.DataFrame(summaries)
    assert ((intervals.low < 0.05) & (intervals.high > 0.05)).mean() == pytest.approx(0.95, abs=0.03)


def test_log_odds_are_finite() -> None:
    runs = on_logit_scale(PairedRuns.of(numbers({("none", "none"): [0.0, 1.0]})), examples=9)
    assert runs.values.ravel() == pytest.approx([math.log(0.05 / 0.95), math.log(0.95 / 0.05)])


def test_floor_effects_of_a_synergy_are_noted() -> None:
    noise = np.zeros((4, 2))
    runs = PairedRuns.of(numbers(factorial_cells(0.0, 0.01, 0.4, 0.5, noise)))
    found = effects_table(runs, {}, examples=100)
    assert set(found[found.effect == "synergy"].note) == {"floor effect: none x l2 has 1.0 %, none x none has 0.0 %"}
    assert "none x none has 0.0 %" in floor_notes(runs, factorial_blocks(runs)[0])["test/worst_case"]
    assert floor_notes(PairedRuns.of(numbers(factorial_cells(0.2, 0.3, 0.4, 0.5, noise))), factorial_blocks(runs)[0]) == {}


def test_accuracies_are_distinguished_from_other_metrics() -> None:
    assert all(map(is_accuracy, ("test/clean", "best:test/pgd", "test/worst_case", "curve/0.5")))
    assert not any(map(is_accuracy, ("curve/area", "test/ece", "test/loss", "test/pgd_loss", "gap/clean", "test/minimal_norm")))


def test_analysis_of_variance_of_a_balanced_design() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, (2, 3, 4))
    names = [(attack, penalty) for attack in ("none", "pgd") for penalty in ("none", "l1", "l2")]
    runs = PairedRuns.of(numbers({name: v.tolist() for name, v in zip(names, values.reshape(6, 4), strict=True)}))
    found = two_way_anova(runs, "test/worst_case")
    assert found is not None
    found = found.set_index("factor")
    assert found.loc["attack", "sum_sq"] == pytest.approx(12 * ((values.mean((1, 2)) - values.mean()) ** 2).sum())
    assert found.loc["penalty", "sum_sq"] == pytest.approx(8 * ((values.mean((0, 2)) - values.mean()) ** 2).sum())
    assert found.loc["seed", "df"] == 3 and found.loc["attack x penalty", "df"] == 2
    incomplete = runs._replace(values=np.where(runs.values == values[1, 2, 3], np.nan, runs.values))
    assert two_way_anova(incomplete, "test/worst_case") is None, "the design is incomplete"


def test_the_pareto_front_of_three_objectives() -> None:
    points = np.array([[0.9, 0.1, -1], [0.9, 0.5, -8], [0.8, 0.5, -8], [0.9, 0.1, -1], [0.95, 0.0, -1]])
    assert is_non_dominated(points).tolist() == [True, True, False, True, True]


def test_the_bootstrap_probability_of_being_on_the_pareto_front() -> None:
    cells: Cells = {("none", "none"): [0.5, 0.5, 0.5], ("none", "l1"): [0.4, 0.4, 0.4], ("none", "l2"): [0.2, 0.5, 0.6]}
    data = pd.concat([numbers(cells), numbers(dict.fromkeys(cells, [0.9] * 3), metric="test/clean")])
    found = pareto_table(PairedRuns.of(data)).set_index("penalty")
    assert found.front.tolist() == [True, False, False]
    # l2 is on the front if its mean over three drawn seeds is at least 0.5: 8 of 27 draws.
    assert found.chance["l1"] == 0 and found.chance["l2"] == pytest.approx(8 / 27, abs=0.05)


def test_an_additional_seed_of_one_cell_is_ignored() -> None:
    cells: Cells = {("none", "none"): [0.5, 0.5, 0.5], ("pgd", "none"): [0.6, 0.6, 0.6, 0.0], ("pgd", "l2"): [0.9]}
    found = pareto_table(PairedRuns.of(numbers(cells))).set_index(["attack", "penalty"])
    assert found.n.tolist() == [3, 3, 1] and found["test/worst_case"].tolist()[:2] == pytest.approx([0.5, 0.6])
    assert found.front.tolist()[:2] == [False, True] and pd.isna(found.front["pgd", "l2"])


def test_the_pareto_front_compares_cells_on_common_seeds() -> None:
    names = [("none", "none"), ("none", "l2"), ("pgd", "none"), ("pgd", "l2")]
    missing: Cells = {name: [math.nan if s == place else 0.1 * place for s in range(5)] for place, name in enumerate(names)}
    found = pareto_table(PairedRuns.of(numbers(missing)))
    assert found.n.tolist() == [2, 2, 2, 4], (
        "three cells with two seeds have as many runs as two with three, and are more cells"
    )
    assert found.front.tolist()[:3] == [False, False, True] and pd.isna(found.front.iloc[3])
    shared: Cells = {names[0]: [0.1, 0.1, 0.9, math.nan], names[1]: [0.2, 0.2, math.nan, 0.2]}
    assert pareto_table(PairedRuns.of(numbers(shared))).front.tolist() == [False, True]
    many: Cells = {name: [0.5] * (15 if place == 0 else 3) for place, name in enumerate(names)}
    assert pareto_table(PairedRuns.of(numbers(many))).n.tolist() == [3] * 4
    disjoint: Cells = {names[0]: [0.1, math.nan], names[1]: [math.nan, 0.2]}
    assert pareto_table(PairedRuns.of(numbers(disjoint))).front.isna().all(), "no two cells are comparable"


def test_equal_cells_are_on_the_pareto_front_in_any_order_of_seeds() -> None:
    seeds = [0.1, 0.7, 0.3, 0.45, 0.62]
    found = pareto_table(
        PairedRuns.of(numbers({("none", "none"): seeds, ("none", "l2"): seeds[::-1], ("pgd", "none"): seeds[2:] + seeds[:2]}))
    )
    assert found.front.all() and (found.chance > 0).all()


def test_the_number_of_seeds_is_the_least_with_the_power() -> None:
    for mean, sd, margin in ((0.02, 0.03, 0.0), (0.05, 0.02, 0.04), (-0.3, 0.9, 0.0)):
        n, test = seeds_needed(mean, sd, margin), TTestPower()
        powers = [test.power(abs(mean - margin) / sd, count, 0.05) for count in (n - 1, n)]
        assert powers[0] < 0.8 <= powers[1]
    assert seeds_needed(1.0, 0.0) == seeds_needed(1.0, 1e-6) == 2 and seeds_needed(0.1, 0.1, 0.1) == math.inf
    assert seeds_needed(1e-6, 1.0) == math.inf and math.isnan(seeds_needed(0.1, math.nan))
