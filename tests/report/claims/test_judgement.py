"""Claims: verdicts on hand-made studies, commands for missing cells, and user-defined claims."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy.special import expit

from temper.report import make_report
from temper.report.claims.claim import All, AnyOf, Claim, ContrastClaim, Verdict, combine_verdicts, iter_contrasts, load_claims
from temper.report.claims.judgement import judge, remarks
from temper.report.claims.missing_cells import command_for_missing_metric
from temper.report.records.long_format import full_frame
from temper.report.records.run_setup import RunSetup
from temper.report.statistics.paired_differences import PairedRuns
from tests.report.statistics.test_paired_differences import Cells, numbers
from tests.report.test_pipeline import RUNS, SUITE, finished_run, write_study

CLAIMS = load_claims()
NONE, PGD, L2 = ("none", "none"), ("pgd", "none"), ("none", "l2")
SPREAD = np.array([-0.01, 0.0, 0.01])
WIDE = 30 * SPREAD


def cells_of(part: ContrastClaim) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the cells whose metric is shifted, and those whose metric stays, to move a contrast."""
    if part.synergy:
        return [("pgd", "l2")], [NONE, PGD, L2]
    assert part.of and part.against
    attack = "pgd" if part.of.attack == "any" else "none"
    other = "pgd" if part.against.attack == "any" else "none"
    if part.against.penalty == "without":
        base = "l2" if part.best else "none"
        return [(attack, " + ".join(sorted({part.of.penalty[0], base} - {"none"})))], [(other, base)]
    names = {"any": "l2"}
    return [(attack, names.get(str(part.of.penalty), str(part.of.penalty)))], [
        (other, names.get(str(part.against.penalty), str(part.against.penalty)))
    ]


def study(claim: Claim, shift: float, spread: np.ndarray) -> PairedRuns:
    """Return a study in which every contrast exceeds its margin by `shift` in the claimed direction.

    The seeds differ by the spread.
    """
    tables = []
    for _, part in iter_contrasts(claim.holds):
        moved, still = cells_of(part)
        size = part.margin + (shift if part.direction == "more" else -shift)
        cells: Cells = {cell: [0.5] * len(spread) for cell in still} | {cell: (0.5 + size + spread).tolist() for cell in moved}
        tables.append(numbers(cells, metric=part.metric))
    # Contrasts of one metric and cell would give two values: the first is used.
    return PairedRuns.of(pd.concat(tables).drop_duplicates(["attack", "penalty", "seed", "metric"]))


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_can_get_each_verdict(name: str) -> None:
    def verdict(shift: float, spread: np.ndarray = SPREAD) -> Verdict:
        return judge({name: CLAIMS[name]}, study(CLAIMS[name], shift, spread), "s", 1000).verdicts[name]

    assert verdict(0.2) == Verdict.SUPPORTED
    assert verdict(-0.2) == Verdict.CONTRADICTED
    assert verdict(0.2, WIDE) == verdict(-0.2, WIDE) == Verdict.UNDECIDED
    assert verdict(0.2, SPREAD[:1]) == Verdict.UNDECIDED, "one seed is not a result"


@pytest.mark.parametrize("name", CLAIMS)
def test_missing_cells_of_each_claim_have_commands(name: str) -> None:
    metrics = {part.metric for _, part in iter_contrasts(CLAIMS[name].holds)}
    bare = PairedRuns.of(pd.concat([numbers({("fgsm", "noise"): [0.1, 0.2]}, metric=metric) for metric in metrics]))
    judged = judge({name: CLAIMS[name]}, bare, "mine")
    assert judged.verdicts[name] == Verdict.NOT_EVALUATED and judged.summary() == "1 claim not evaluated"
    assert judged.table.lacks.str.contains("temper-train study=mine attack=").all()
    assert judged.table.lacks.str.contains("seed=0,1 -m").all()


def test_there_are_seventeen_different_claims() -> None:
    assert len(CLAIMS) == 17 and len({claim.sentence for claim in CLAIMS.values()}) == 17


def test_commands_train_only_missing_cells() -> None:
    some = PairedRuns.of(numbers({NONE: [0.1, 0.2], PGD: [0.5, 0.6]}))
    lacks = judge(CLAIMS, some, "mine").table.drop_duplicates("claim").set_index("claim").lacks
    assert lacks["adversarial_raises_robustness"] == ""
    assert lacks["adversarial_beats_regularization"] == (
        "none x l2: `temper-train study=mine attack=none penalty=l2 seed=0,1 -m`"
    )
    assert "attack=none,pgd penalty=l2" in lacks["more_than_the_sum"]
    assert "attack=pgd 'penalty=[dynamic,l2]'" in lacks["dynamic_beats_fixed"]
    assert "evaluation=corruptions" in lacks["adversarial_helps_under_shift"]
    assert "pgd x rotation" in lacks["self_supervision_adds_robustness"]


@pytest.mark.parametrize(("examples", "robust"), [(2, 0.5), (2, 0.0), (None, 0.0), (1000, 0.0)])
def test_identical_accuracies_over_seeds_give_no_false_verdict(examples: int | None, robust: float) -> None:
    cells: Cells = {NONE: [0.0] * 3, L2: [0.0] * 3, PGD: [robust] * 3, ("pgd", "l2"): [robust] * 3}
    found = judge(CLAIMS, PairedRuns.of(numbers(cells)), "s", examples).table.set_index("claim")
    assert found.found.loc[["adversarial_raises_robustness", "more_than_the_sum"]].isin(["undecided", "not evaluated"]).all()
    expected = "supported" if examples == 1000 else "undecided"
    assert found.found["regularization_does_not_defend"] == expected, "no robust image among 1,000 is far below five points"
    assert found.seeds_needed["adversarial_raises_robustness"] != 2


def test_commands_fit_the_data_of_the_study() -> None:
    rows = PairedRuns.of(pd.concat([numbers({NONE: [0.1, 0.2]}), numbers({NONE: [0.1, 0.2]}, metric="test/clean")]))
    setup = RunSetup(overrides=("domain=tables", "data.threats.l2.eps=1"), norm="l2", images=False)
    lacks = judge(CLAIMS, rows, "mine", setup=setup).table.drop_duplicates("claim").set_index("claim").lacks
    command = "`temper-train domain=tables data.threats.l2.eps=1 study=mine attack=pgd_l2 penalty=none seed=0,1 -m`"
    assert lacks["adversarial_raises_robustness"] == f"pgd_l2 x none: {command}"
    assert lacks["self_supervision_adds_robustness"].endswith("(defined for images only)")
    assert (
        command_for_missing_metric("corruptions/mean", "mine", setup)
        == "corruptions/mean (no suite measures it for these data)"
    )
    assert command_for_missing_metric("curve/area", "mine", setup) == (
        "curve/area: `temper-evaluate path=outputs/mine evaluation=curve evaluation.norm=l2`"
    )


def test_commands_repeat_the_overrides_that_all_runs_share(tmp_path: Path) -> None:
    table = {"data": {"source": {"_target_": "temper.data.BreastCancer"}, "shape": [30]}}
    made = [dataclasses.replace(one, config=one.config | table) for one in RUNS]
    folder = write_study(tmp_path, made)
    for number, path in enumerate(sorted(folder.glob("*/seed-*"))):
        (path / ".hydra").mkdir()
        overrides = ["attack=pgd", "seed=0", "domain=tables", "study=mine", f"optimizer.lr={number}"]
        (path / ".hydra" / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(overrides)))
    assert RunSetup.of(made, [folder], "standard") == RunSetup(("domain=tables",), "linf", images=False)
    shutil.rmtree(path / ".hydra")
    assert RunSetup.of(made, [folder], "standard").overrides == (), "a run without overrides may have another setup"
    assert RunSetup.of(RUNS, [tmp_path], "standard").images, "records without a shape are images"


def test_the_table_has_effect_interval_and_seeds_of_each_verdict() -> None:
    judged = judge(CLAIMS, PairedRuns.of(numbers({NONE: [0.1, 0.2, 0.3], PGD: [0.2, 0.5, 0.9]})), "s").table.set_index("claim")
    row = judged.loc["adversarial_raises_robustness"]
    assert row.found == "undecided" and row["mean"] == pytest.approx(1 / 3) and row.low < 0 < row.high and row.n == 3
    assert row.seeds_needed > 3 and row.p_holm == row.p, "a single comparison needs no correction"


def test_several_pairs_are_averaged_by_seed() -> None:
    cells = {NONE: [0.1, 0.2], PGD: [0.5, 0.7], ("trades", "none"): [0.7, 0.9], ("noise", "none"): [0.0, 0.0]}
    row = judge(CLAIMS, PairedRuns.of(numbers(cells)), "s").table.set_index("claim").loc["adversarial_raises_robustness"]
    assert row.pairs == 2 and row["mean"] == pytest.approx((0.5 + 0.6) / 2), "random noise is not adversarial training"


def test_a_dynamic_penalty_is_compared_with_the_best_fixed_one() -> None:
    fixed = [numbers({("pgd", "l2"): [v, v + 0.01]}, setting=f"strength={s}") for s, v in ((1, 0.5), (3, 0.6))]
    for number, table in enumerate(fixed):
        table["digest"] = f"fixed{number}"
    data = pd.concat([*fixed, numbers({("pgd", "dynamic + l2"): [0.65, 0.66]})])
    row = judge(CLAIMS, PairedRuns.of(data), "s").table.set_index("claim").loc["dynamic_beats_fixed"]
    assert row.pairs == 1 and row["mean"] == pytest.approx(0.05)


def test_the_best_fixed_penalty_is_chosen_by_validation() -> None:
    tables = []
    for number, (test, validation) in enumerate([([0.5, 0.51], [0.9, 0.9]), ([0.6, 0.61], [0.8, 0.8])]):
        for metric, values in (("test/worst_case", test), ("val/pgd", validation)):
            table = numbers({("pgd", "l2"): values}, metric=metric, setting=f"strength={number}")
            tables.append(table.assign(digest=f"fixed{number}"))
    runs = PairedRuns.of(pd.concat([*tables, numbers({("pgd", "dynamic + l2"): [0.65, 0.66]})]))
    row = judge(CLAIMS, runs, "s").table.set_index("claim").loc["dynamic_beats_fixed"]
    assert row["mean"] == pytest.approx(0.15), "the better one on the validation split is worse on the test set"
    bare = judge(
        CLAIMS, PairedRuns.of(pd.concat([tables[0], tables[2], numbers({("pgd", "dynamic + l2"): [0.65, 0.66]})])), "s"
    ).table
    assert "which favors it" in bare.set_index("claim").flag["dynamic_beats_fixed"]


def test_effects_that_add_up_in_log_odds_are_no_synergy() -> None:
    noise = np.array([-0.01, 0.0, 0.01])
    cells: Cells = {NONE: expit(-4 + noise).tolist(), L2: expit([-3.0] * 3).tolist()}
    cells |= {PGD: expit([0.0] * 3).tolist(), ("pgd", "l2"): expit([1.0] * 3).tolist()}
    judged = judge(CLAIMS, PairedRuns.of(numbers(cells)), "s", 10_000)
    found = judged.table.query("claim == 'more_than_the_sum'").set_index("scale").found
    assert found["own"].tolist() == ["supported", "not evaluated"] and found["logit"] == "undecided"
    assert judged.verdicts["more_than_the_sum"] == "undecided"


def test_verdicts_that_the_correction_removes_are_marked() -> None:
    values: Cells = {NONE: [0.1, 0.2, 0.3], PGD: [0.2, 0.4, 0.46], L2: [0.1, 0.25, 0.28]}
    tables = [numbers(values, metric=metric) for metric in ("test/worst_case", "gap/clean", "cost/seconds")]
    judged = judge(CLAIMS, PairedRuns.of(pd.concat(tables)), "s")
    row = judged.table.set_index("claim").loc["adversarial_raises_robustness"]
    assert row.p < 0.05 < row.p_holm
    assert row.verdict == row.found == "supported" and row.verdict_holm == row.found_holm == "undecided"
    assert judged.verdicts["adversarial_raises_robustness"] == "supported", "the verdict is by the interval"


def test_an_optional_contrast_counts_only_if_measured() -> None:
    needed = ContrastClaim.model_validate({"synergy": {"attack": "any", "penalty": "any"}, "metric": "a", "direction": "more"})
    optional = needed.model_copy(update={"metric": "b", "optional": True})
    for found, expected in (("not evaluated", "supported"), ("undecided", "undecided"), ("contradicted", "contradicted")):
        assert combine_verdicts(All(all=[needed, optional]), {needed: Verdict.SUPPORTED, optional: Verdict(found)}) == expected


@pytest.mark.parametrize(
    ("letters", "of_all", "of_any"),
    [
        ("ss", "supported", "supported"),
        ("su", "undecided", "supported"),
        ("sc", "contradicted", "supported"),
        ("uc", "contradicted", "undecided"),
        ("cc", "contradicted", "contradicted"),
        ("sn", "not evaluated", "supported"),
        ("cn", "contradicted", "not evaluated"),
        ("un", "not evaluated", "not evaluated"),
    ],
)
def test_verdicts_combine_by_three_valued_logic(letters: str, of_all: str, of_any: str) -> None:
    by_letter = {verdict.value[0]: verdict for verdict in Verdict}
    made = [
        ContrastClaim.model_validate({"synergy": {"attack": "any", "penalty": "any"}, "metric": str(i), "direction": "more"})
        for i in (0, 1)
    ]
    verdicts = dict(zip(made, (by_letter[letter] for letter in letters), strict=True))
    assert combine_verdicts(All(all=made), verdicts) == of_all and combine_verdicts(AnyOf(any=made), verdicts) == of_any


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holds.direction": "up"}, "report.claims.mine.holds.*direction"),
        ({"holds.against": None}, "report.claims.mine.holds.*needs either `of` and `against`"),
        ({"sentense": "A typo."}, "report.claims.mine.sentense"),
        ({"holds.margin": "much"}, "report.claims.mine.holds.*margin"),
    ],
)
def test_an_invalid_claim_is_an_error_that_names_its_key(changes: dict[str, Any], message: str) -> None:
    side = {"attack": "any", "penalty": "none"}
    holds = {"of": side, "against": side | {"attack": "none"}, "metric": "test/clean", "direction": "more"}
    config = OmegaConf.create({"report": {"claims": {"mine": {"sentence": "Mine.", "holds": holds}}}})
    assert load_claims(config)["mine"].sentence == "Mine."
    for key, value in changes.items():
        OmegaConf.update(config, f"report.claims.mine.{key}", value, force_add=True)
    with pytest.raises(ValueError, match=message):
        load_claims(config)


def test_the_full_frame_adds_other_suites_and_validation() -> None:
    made = dataclasses.replace(RUNS[0], evaluations=dict(RUNS[0].evaluations), curves={"val/clean": [0.1, 0.2, 0.3, 0.4]})
    other = {"suite": {"name": "corruptions"}, "run": {}}
    checkpoint = {"epoch": 3, "metrics": {"corruptions/mean": 0.4, "test/clean": 0.0}}
    made.evaluations["corruptions-1"] = other | {"checkpoints": {"last": checkpoint}}
    found = full_frame([made], "standard").query("checkpoint == 'last'").set_index("metric").value
    assert found["corruptions/mean"] == 0.4 and found["test/clean"] == 0.98 and found["val/clean"] == 0.4


def test_a_report_includes_its_conclusions(tmp_path: Path) -> None:
    shown = make_report(write_study(tmp_path, RUNS), tmp_path / "results")
    assert "not evaluated: claims.csv" in str(shown[-2])
    text, tex = ((tmp_path / f"results/table.{end}").read_text() for end in ("md", "tex"))
    assert "## Effects" in text and "+56.0 [" in text and "Missing: " in text and "increases robust accuracy" in tex
    claims = pd.read_csv(tmp_path / "results/claims.csv").set_index("claim")
    assert claims.verdict["adversarial_raises_robustness"] in ("supported", "undecided")
    found = pd.read_csv(tmp_path / "results/effects.csv")
    assert {"attack", "penalty"} == set(found.effect) and "test/pgd" in set(found.metric)


def test_per_example_outcomes_are_read_from_the_run_folders(tmp_path: Path) -> None:
    folder = write_study(tmp_path, RUNS)
    for position, item in enumerate(RUNS):
        path = folder / f"{item.attack}+{item.penalty}-{item.digest}" / f"seed-{item.seed}" / "evaluations" / SUITE
        path.mkdir(parents=True)
        right = np.random.default_rng(position).random((2, 50)) < 0.7
        np.savez(path / "last.npz", y=np.zeros(50), clean=right[0], pgd=right.all(0))
    make_report(folder, tmp_path / "results")
    found = pd.read_csv(tmp_path / "results/effects.csv").query("effect == 'attack' and metric == 'test/worst_case'")
    assert found.images_sd.notna().all() and (found.resampled_low < found.resampled_high).all()


def test_the_metrics_of_the_effects_are_configurable(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    write_study(tmp_path / "outputs", RUNS)
    status, output = temper("report", "study=study", "effects.metrics=[gap]", "figures=[]")
    assert status == 0, output
    effects = Path("results/study/table.md").read_text().partition("## Effects")[2].partition("## Claims")[0]
    assert "gap %" in effects and "worst case %" not in effects
    status, output = temper("report", "study=study", "effects.metrics=[speed]")
    assert status != 0 and "effects.metrics: no run has the metric speed" in output


def test_user_defined_claims_are_judged(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    write_study(tmp_path / "outputs", [*RUNS, finished_run("pgd", "l2", 0, 0.9, 0.8), finished_run("pgd", "l2", 1, 0.9, 0.8)])
    mine = tmp_path / "my_conf/report/mine.yaml"
    mine.parent.mkdir(parents=True)
    side = "{attack: pgd, penalty: l2}, against: {attack: pgd, penalty: none}"
    mine.write_text(
        f"claims:\n  mine:\n    sentence: L2 helps PGD.\n    holds: {{of: {side}, metric: test/pgd, direction: more}}\n"
    )
    status, output = temper("report", "--config-dir", str(tmp_path / "my_conf"), "study=study", "report=[claims,mine]")
    assert status == 0, output
    claims = pd.read_csv("results/study/claims.csv").set_index("claim")
    assert len(claims.index.unique()) == 18 and claims["mean"]["mine"] == pytest.approx(0.09)


def test_a_claim_with_only_optional_missing_contrasts_is_not_evaluated() -> None:
    side = {"attack": "any", "penalty": "none"}
    part = {"of": side, "against": side | {"attack": "none"}, "metric": "curve/area", "direction": "more", "optional": True}
    for joint in ("all", "any"):
        claim = Claim.model_validate({"sentence": "It does.", "holds": {joint: [part]}})
        judged = judge({"it": claim}, PairedRuns.of(numbers({NONE: [0.1, 0.2], PGD: [0.5, 0.6]})), "s")
        assert judged.verdicts["it"] == Verdict.NOT_EVALUATED


def test_remarks_include_the_flags_of_all_contrasts() -> None:
    raised = {"of": {"attack": "any", "penalty": "none"}, "against": {"attack": "none", "penalty": "none"}}
    parts_of_it = [raised, {"synergy": {"attack": "any", "penalty": "any"}}]
    holds = {"all": [part | {"metric": "test/worst_case", "direction": "more"} for part in parts_of_it]}
    claim = Claim.model_validate({"sentence": "It does.", "holds": holds, "note": "As a rule."})
    runs = PairedRuns.of(numbers({NONE: [0.0, 0.0], PGD: [0.5, 0.6], L2: [0.0, 0.01], ("pgd", "l2"): [0.6, 0.6]}))
    text = remarks(judge({"it": claim}, runs, "s").table)
    assert text == "As a rule. Floor effect: none x l2 has 0.5 %, none x none has 0.0 %."
