"""Claims: each verdict on records made by hand for it, what a study lacks, and claims of one's own."""

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
from temper.report.claims.claim import All, AnyOf, Claim, ContrastClaim, Verdict, load, parts, verdict
from temper.report.claims.judgement import judge, remarks
from temper.report.claims.missing_cells import metric_lacking
from temper.report.records.long_format import evidence
from temper.report.records.run_setup import Setup
from temper.report.statistics.paired_differences import PairedRuns
from tests.report.statistics.test_paired_differences import Cells, numbers
from tests.report.test_pipeline import RUNS, SUITE, run, written

CLAIMS = load()
NONE, PGD, L2 = ("none", "none"), ("pgd", "none"), ("none", "l2")
SPREAD = np.array([-0.01, 0.0, 0.01])
WIDE = 30 * SPREAD


def cells_of(part: ContrastClaim) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The cells whose number is raised, and those that stay, to move a part."""
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
    """Every part lies `shift` beyond its margin, in the direction that is claimed; seeds differ by the spread."""
    tables = []
    for _, part in parts(claim.holds):
        moved, still = cells_of(part)
        size = part.margin + (shift if part.direction == "more" else -shift)
        cells: Cells = {cell: [0.5] * len(spread) for cell in still} | {cell: (0.5 + size + spread).tolist() for cell in moved}
        tables.append(numbers(cells, metric=part.metric))
    # Parts of one metric and cell would be two numbers: the first is taken.
    return PairedRuns.of(pd.concat(tables).drop_duplicates(["attack", "penalty", "seed", "metric"]))


@pytest.mark.parametrize("name", CLAIMS)
def test_the_verdict_on_each_claim(name: str) -> None:
    def said(shift: float, spread: np.ndarray = SPREAD) -> Verdict:
        return judge({name: CLAIMS[name]}, study(CLAIMS[name], shift, spread), "s", 1000).verdicts[name]

    assert said(0.2) == Verdict.SUPPORTED
    assert said(-0.2) == Verdict.CONTRADICTED
    assert said(0.2, WIDE) == said(-0.2, WIDE) == Verdict.UNDECIDED
    assert said(0.2, SPREAD[:1]) == Verdict.UNDECIDED, "one seed is not a result"


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_study_lacks_for_each_claim(name: str) -> None:
    metrics = {part.metric for _, part in parts(CLAIMS[name].holds)}
    bare = PairedRuns.of(pd.concat([numbers({("fgsm", "noise"): [0.1, 0.2]}, metric=metric) for metric in metrics]))
    judged = judge({name: CLAIMS[name]}, bare, "mine")
    assert judged.verdicts[name] == Verdict.LACKING and judged.summary() == "1 claim lacking cells or metrics"
    assert judged.table.lacks.str.contains("temper-train study=mine attack=").all()
    assert judged.table.lacks.str.contains("seed=0,1 -m").all()


def test_there_are_the_claims_of_the_comparison() -> None:
    assert len(CLAIMS) == 17 and len({claim.sentence for claim in CLAIMS.values()}) == 17


def test_only_what_is_lacking_is_named() -> None:
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
def test_accuracies_without_spread_fake_no_verdict(examples: int | None, robust: float) -> None:
    cells: Cells = {NONE: [0.0] * 3, L2: [0.0] * 3, PGD: [robust] * 3, ("pgd", "l2"): [robust] * 3}
    found = judge(CLAIMS, PairedRuns.of(numbers(cells)), "s", examples).table.set_index("claim")
    assert found.found.loc[["adversarial_raises_robustness", "more_than_the_sum"]].isin(["undecided", "lacking"]).all()
    expected = "supported" if examples == 1000 else "undecided"
    assert found.found["regularization_does_not_defend"] == expected, "of 1,000 images none is far below five points"
    assert found.seeds_needed["adversarial_raises_robustness"] != 2


def test_commands_are_for_the_data_of_the_study() -> None:
    rows = PairedRuns.of(pd.concat([numbers({NONE: [0.1, 0.2]}), numbers({NONE: [0.1, 0.2]}, metric="test/clean")]))
    setup = Setup(overrides=("domain=tables", "data.threats.l2.eps=1"), norm="l2", images=False)
    lacks = judge(CLAIMS, rows, "mine", setup=setup).table.drop_duplicates("claim").set_index("claim").lacks
    command = "`temper-train domain=tables data.threats.l2.eps=1 study=mine attack=pgd_l2 penalty=none seed=0,1 -m`"
    assert lacks["adversarial_raises_robustness"] == f"pgd_l2 x none: {command}"
    assert lacks["self_supervision_adds_robustness"].endswith("which is for images alone")
    assert metric_lacking("corruptions/mean", "mine", setup) == "corruptions/mean, which no suite for such data measures"
    assert metric_lacking("curve/area", "mine", setup) == (
        "curve/area: `temper-evaluate path=outputs/mine evaluation=curve evaluation.norm=l2`"
    )


def test_a_command_repeats_what_all_runs_were_started_with(tmp_path: Path) -> None:
    table = {"data": {"source": {"_target_": "temper.data.BreastCancer"}, "shape": [30]}}
    made = [dataclasses.replace(one, config=one.config | table) for one in RUNS]
    folder = written(tmp_path, made)
    for number, path in enumerate(sorted(folder.glob("*/seed-*"))):
        (path / ".hydra").mkdir()
        overrides = ["attack=pgd", "seed=0", "domain=tables", "study=mine", f"optimizer.lr={number}"]
        (path / ".hydra" / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(overrides)))
    assert Setup.of(made, [folder], "standard") == Setup(("domain=tables",), "linf", images=False)
    shutil.rmtree(path / ".hydra")
    assert Setup.of(made, [folder], "standard").overrides == (), "one run that does not tell may be set up otherwise"
    assert Setup.of(RUNS, [tmp_path], "standard").images, "as of records that do not tell the shape"


def test_effect_interval_and_number_stand_beside_the_verdict() -> None:
    judged = judge(CLAIMS, PairedRuns.of(numbers({NONE: [0.1, 0.2, 0.3], PGD: [0.2, 0.5, 0.9]})), "s").table.set_index("claim")
    row = judged.loc["adversarial_raises_robustness"]
    assert row.found == "undecided" and row["mean"] == pytest.approx(1 / 3) and row.low < 0 < row.high and row.n == 3
    assert row.seeds_needed > 3 and row.p_holm == row.p, "one comparison alone needs no correction"


def test_several_pairs_are_a_mean_by_seed() -> None:
    cells = {NONE: [0.1, 0.2], PGD: [0.5, 0.7], ("trades", "none"): [0.7, 0.9], ("noise", "none"): [0.0, 0.0]}
    row = judge(CLAIMS, PairedRuns.of(numbers(cells)), "s").table.set_index("claim").loc["adversarial_raises_robustness"]
    assert row.pairs == 2 and row["mean"] == pytest.approx((0.5 + 0.6) / 2), "random noise is no adversarial training"


def test_a_dynamic_penalty_is_set_against_the_best_fixed_one() -> None:
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
    assert row["mean"] == pytest.approx(0.15), "the better one on the validation split is the worse one on the test set"
    bare = judge(
        CLAIMS, PairedRuns.of(pd.concat([tables[0], tables[2], numbers({("pgd", "dynamic + l2"): [0.65, 0.66]})])), "s"
    ).table
    assert "which favours it" in bare.set_index("claim").flag["dynamic_beats_fixed"]


def test_what_adds_up_in_log_odds_is_not_more_than_the_sum() -> None:
    noise = np.array([-0.01, 0.0, 0.01])
    cells: Cells = {NONE: expit(-4 + noise).tolist(), L2: expit([-3.0] * 3).tolist()}
    cells |= {PGD: expit([0.0] * 3).tolist(), ("pgd", "l2"): expit([1.0] * 3).tolist()}
    judged = judge(CLAIMS, PairedRuns.of(numbers(cells)), "s", 10_000)
    found = judged.table.query("claim == 'more_than_the_sum'").set_index("scale").found
    assert found["own"].tolist() == ["supported", "lacking"] and found["logit"] == "undecided"
    assert judged.verdicts["more_than_the_sum"] == "undecided"


def test_what_does_not_withstand_the_correction_is_told() -> None:
    values: Cells = {NONE: [0.1, 0.2, 0.3], PGD: [0.2, 0.4, 0.46], L2: [0.1, 0.25, 0.28]}
    tables = [numbers(values, metric=metric) for metric in ("test/worst_case", "gap/clean", "cost/seconds")]
    judged = judge(CLAIMS, PairedRuns.of(pd.concat(tables)), "s")
    row = judged.table.set_index("claim").loc["adversarial_raises_robustness"]
    assert row.p < 0.05 < row.p_holm
    assert row.verdict == row.found == "supported" and row.verdict_holm == row.found_holm == "undecided"
    assert judged.verdicts["adversarial_raises_robustness"] == "supported", "a verdict is by its interval"


def test_an_optional_part_counts_where_it_was_measured() -> None:
    needed = ContrastClaim.model_validate({"synergy": {"attack": "any", "penalty": "any"}, "metric": "a", "direction": "more"})
    optional = needed.model_copy(update={"metric": "b", "optional": True})
    for found, expected in (("lacking", "supported"), ("undecided", "undecided"), ("contradicted", "contradicted")):
        assert verdict(All(all=[needed, optional]), {needed: Verdict.SUPPORTED, optional: Verdict(found)}) == expected


@pytest.mark.parametrize(
    ("said", "of_all", "of_any"),
    [
        ("ss", "supported", "supported"),
        ("su", "undecided", "supported"),
        ("sc", "contradicted", "supported"),
        ("uc", "contradicted", "undecided"),
        ("cc", "contradicted", "contradicted"),
        ("sl", "lacking", "supported"),
        ("cl", "contradicted", "lacking"),
        ("ul", "lacking", "lacking"),
    ],
)
def test_parts_join_as_in_logic(said: str, of_all: str, of_any: str) -> None:
    letters = {verdict.value[0]: verdict for verdict in Verdict}
    made = [
        ContrastClaim.model_validate({"synergy": {"attack": "any", "penalty": "any"}, "metric": str(i), "direction": "more"})
        for i in (0, 1)
    ]
    found = dict(zip(made, (letters[letter] for letter in said), strict=True))
    assert verdict(All(all=made), found) == of_all and verdict(AnyOf(any=made), found) == of_any


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holds.direction": "up"}, "report.claims.mine.holds.*direction"),
        ({"holds.against": None}, "report.claims.mine.holds.*needs `of` and `against`"),
        ({"sentense": "A typo."}, "report.claims.mine.sentense"),
        ({"holds.margin": "much"}, "report.claims.mine.holds.*margin"),
    ],
)
def test_a_claim_that_is_not_one_is_named(changes: dict[str, Any], message: str) -> None:
    side = {"attack": "any", "penalty": "none"}
    holds = {"of": side, "against": side | {"attack": "none"}, "metric": "test/clean", "direction": "more"}
    config = OmegaConf.create({"report": {"claims": {"mine": {"sentence": "Mine.", "holds": holds}}}})
    assert load(config)["mine"].sentence == "Mine."
    for key, value in changes.items():
        OmegaConf.update(config, f"report.claims.mine.{key}", value, force_add=True)
    with pytest.raises(ValueError, match=message):
        load(config)


def test_evidence_adds_other_suites_and_validation() -> None:
    made = dataclasses.replace(RUNS[0], evaluations=dict(RUNS[0].evaluations), curves={"val/clean": [0.1, 0.2, 0.3, 0.4]})
    other = {"suite": {"name": "corruptions"}, "run": {}}
    checkpoint = {"epoch": 3, "metrics": {"corruptions/mean": 0.4, "test/clean": 0.0}}
    made.evaluations["corruptions-1"] = other | {"checkpoints": {"last": checkpoint}}
    found = evidence([made], "standard").query("checkpoint == 'last'").set_index("metric").value
    assert found["corruptions/mean"] == 0.4 and found["test/clean"] == 0.98 and found["val/clean"] == 0.4


def test_a_report_has_its_conclusions(tmp_path: Path) -> None:
    shown = make_report(written(tmp_path, RUNS), tmp_path / "results")
    assert "lacking cells or metrics: claims.csv" in str(shown[-2])
    text, tex = ((tmp_path / f"results/table.{end}").read_text() for end in ("md", "tex"))
    assert "## Effects" in text and "+56.0 [" in text and "Lacks" in text and "raises robust accuracy" in tex
    claims = pd.read_csv(tmp_path / "results/claims.csv").set_index("claim")
    assert claims.verdict["adversarial_raises_robustness"] in ("supported", "undecided")
    found = pd.read_csv(tmp_path / "results/effects.csv")
    assert {"attack", "penalty"} == set(found.effect) and "test/pgd" in set(found.metric)


def test_outcomes_per_example_are_found_beside_the_records(tmp_path: Path) -> None:
    folder = written(tmp_path, RUNS)
    for position, item in enumerate(RUNS):
        path = folder / f"{item.attack}+{item.penalty}-{item.digest}" / f"seed-{item.seed}" / "evaluations" / SUITE
        path.mkdir(parents=True)
        right = np.random.default_rng(position).random((2, 50)) < 0.7
        np.savez(path / "last.npz", y=np.zeros(50), clean=right[0], pgd=right.all(0))
    make_report(folder, tmp_path / "results")
    found = pd.read_csv(tmp_path / "results/effects.csv").query("effect == 'attack' and metric == 'test/worst_case'")
    assert found.images_sd.notna().all() and (found.resampled_low < found.resampled_high).all()


def test_the_metrics_of_the_effects_are_chosen(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    written(tmp_path / "outputs", RUNS)
    status, output = temper("report", "study=study", "effects.metrics=[gap]", "figures=[]")
    assert status == 0, output
    effects = Path("results/study/table.md").read_text().partition("## Effects")[2].partition("## Claims")[0]
    assert "gap %" in effects and "worst case %" not in effects
    status, output = temper("report", "study=study", "effects.metrics=[speed]")
    assert status != 0 and "effects.metrics: no run has the metric speed" in output


def test_claims_of_ones_own_are_judged(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    written(tmp_path / "outputs", [*RUNS, run("pgd", "l2", 0, 0.9, 0.8), run("pgd", "l2", 1, 0.9, 0.8)])
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


def test_a_claim_whose_parts_are_all_optional_and_lacking_is_not_decided() -> None:
    side = {"attack": "any", "penalty": "none"}
    part = {"of": side, "against": side | {"attack": "none"}, "metric": "curve/area", "direction": "more", "optional": True}
    for joint in ("all", "any"):
        claim = Claim.model_validate({"sentence": "It does.", "holds": {joint: [part]}})
        judged = judge({"it": claim}, PairedRuns.of(numbers({NONE: [0.1, 0.2], PGD: [0.5, 0.6]})), "s")
        assert judged.verdicts["it"] == Verdict.LACKING


def test_flags_of_all_parts_are_told() -> None:
    raised = {"of": {"attack": "any", "penalty": "none"}, "against": {"attack": "none", "penalty": "none"}}
    parts_of_it = [raised, {"synergy": {"attack": "any", "penalty": "any"}}]
    holds = {"all": [part | {"metric": "test/worst_case", "direction": "more"} for part in parts_of_it]}
    claim = Claim.model_validate({"sentence": "It does.", "holds": holds, "note": "As a rule."})
    runs = PairedRuns.of(numbers({NONE: [0.0, 0.0], PGD: [0.5, 0.6], L2: [0.0, 0.01], ("pgd", "l2"): [0.6, 0.6]}))
    said = remarks(judge({"it": claim}, runs, "s").table)
    assert said == "As a rule. On the floor: none x l2 has 0.5 %, none x none has 0.0 %."
