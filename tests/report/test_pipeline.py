"""Reports: means by hand, missing cells, the same bytes from the same records."""

import copy
import dataclasses
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from temper.config.composed import CONF
from temper.report import make_report
from temper.report.figures import pareto_front
from temper.report.figures.strength_sweep import strength_figure, strengths_of
from temper.report.records.long_format import choose_suite, frame, full_frame
from temper.report.tables.audit_badges import badges, findings
from temper.report.tables.markdown_latex import PACKAGES
from temper.report.tables.results_table import MISSING, Metric, format_mean_and_sd, table, to_latex
from temper.runs.record import RECORD, RunRecord
from tests.runs.test_record import record

SUITE = "standard-0"


def finished_run(attack: str, penalty: str, seed: int, clean: float, robust: float, **changes: object) -> RunRecord:
    """Return a finished run with given accuracies."""
    checkpoint = {
        "epoch": 3,
        "metrics": {"test/clean": clean, "test/pgd": robust, "test/worst_case": robust, "gap/clean": 0.01},
    }
    evaluation = {
        "suite": {"name": "standard", "norm": "linf", "threat": {"eps": "8/255"}, "attacks": {"pgd": {}}},
        "checkpoints": {"best": checkpoint, "last": checkpoint},
        "run": {"gap/robust_overfitting": 0.0},
        "seconds": 1.0,
    }
    config = {"seed": seed, "data": {"source": {"_target_": "temper.data.Digits"}}, "validation": {"name": "pgd"}}
    values: dict[str, object] = {
        "evaluations": {SUITE: evaluation},
        "config": config,
        "digest": f"{attack}{penalty}"[:8],
        "versions": dict.fromkeys(("python", "torch", "pytorch-lightning", "torchattacks"), "1"),
        "hardware": {"cpu": "a cpu"},
        "curves": {"val/clean": [0.1, clean], "val/pgd": [0.1, robust]},
        "cost": {"seconds": 2.0, "gradient_evaluations": 8.0, "peak_memory": None},
    }
    return record(attack=attack, penalty=penalty, seed=seed, **(values | changes))


RUNS = [
    finished_run("none", "none", 0, 0.98, 0.10),
    finished_run("none", "none", 1, 0.96, 0.20),
    finished_run("none", "l2", 0, 0.97, 0.15),
    finished_run("pgd", "none", 0, 0.90, 0.70),
    finished_run("pgd", "none", 1, 0.92, 0.72),
]


def audited_run(attack: str, seed: int, **statuses: str) -> RunRecord:
    """Return a run whose audit has these statuses."""
    made = finished_run(attack, "none", seed, 0.9, 0.5)
    evaluation = copy.deepcopy(made.evaluations[SUITE])
    audit = {name: {"status": status, "figure": 0.03, "meaning": "of them"} for name, status in statuses.items()}
    evaluation["checkpoints"]["last"] = evaluation["checkpoints"]["last"] | {"audit": audit}
    return dataclasses.replace(made, evaluations={SUITE: evaluation})


AUDITED = [
    audited_run("fgsm", 0, steps="passed", zero_gradients="failed"),
    audited_run("fgsm", 1, steps="warned", zero_gradients="passed"),
    audited_run("pgd", 0, steps="passed"),
    audited_run("pgd", 1, steps="passed"),
    audited_run("trades", 0, steps="warned"),
]
COLUMNS = ["test/clean", "attacks", "best:test/pgd", "run:cost/gradient_evaluations"]


def write_study(folder: Path, records: list[RunRecord]) -> Path:
    """Write records as a study and return its folder."""
    for item in records:
        path = folder / "study" / f"{item.attack}+{item.penalty}-{item.digest}" / f"seed-{item.seed}"
        path.mkdir(parents=True)
        item.write(path)
    return folder / "study"


def test_mean_and_standard_deviation_over_seeds() -> None:
    shown = table(frame(RUNS, "standard"), COLUMNS, ["pgd"]).set_index(["attack", "penalty"])
    assert shown.loc[("none", "none"), "clean %"] == f"97.0 ± {100 * np.std([0.98, 0.96], ddof=1):.1f}"
    assert shown.loc[("none", "l2"), "PGD %"] == "15.0", "one seed has no standard deviation"
    assert shown.loc[("pgd", "none"), "PGD % (best)"] == "71.0 ± 1.4"
    assert shown.loc[("pgd", "none"), "gradients per example"] == "8 ± 0"


def test_missing_cells_and_seeds_are_marked() -> None:
    shown = table(frame(RUNS, "standard"), COLUMNS, ["pgd"]).set_index(["attack", "penalty"])
    assert shown.loc[[("pgd", "l2")]].to_numpy().tolist()[0] == [MISSING] * 4 + ["0 of 2"]
    assert shown.loc[("none", "l2"), "n"] == "1 of 2" and shown.loc[("pgd", "none"), "n"] == "2"
    assert [name for name, _ in shown.index] == ["none", "none", "pgd", "pgd"], "none comes first"


def test_cells_of_one_name_are_distinguished_by_their_settings() -> None:
    strong = [finished_run("pgd", "l2", 0, 0.9, 0.7, digest=str(s), config=RUNS[0].config | {"strength": s}) for s in (1, 2)]
    assert list(table(frame(strong, "standard"), ["test/clean"], []).penalty) == ["l2 (strength=1)", "l2 (strength=2)"]


def test_a_suite_of_some_cells_names_them_as_other_suites_do() -> None:
    strong = [finished_run("none", "l2", 0, 0.9, 0.7, digest=str(s), config=RUNS[0].config | {"strength": s}) for s in (1, 10)]
    strong[0].evaluations["corruptions-0"] = copy.deepcopy(strong[0].evaluations[SUITE])
    for checkpoint in strong[0].evaluations["corruptions-0"]["checkpoints"].values():
        checkpoint["metrics"] = {"corruptions/mean": 0.4}
    data = full_frame(strong, "standard")
    assert set(data[data.metric == "corruptions/mean"].setting) == {"strength=1"} and data.setting.nunique() == 2


def test_a_checkpoint_is_shown_for_the_runs_that_have_it(tmp_path: Path) -> None:
    last_only = finished_run("none", "none", 0, 0.98, 0.10)
    del last_only.evaluations[SUITE]["checkpoints"]["best"]
    settings = cast(Any, OmegaConf.load(Path(CONF) / "report.yaml"))
    settings.table.checkpoint = "best"
    make_report(write_study(tmp_path, [last_only, *RUNS[3:]]), tmp_path / "results", settings=settings)
    text = (tmp_path / "results/table.md").read_text()
    assert "none x none was not evaluated at the checkpoint best" in text and "91.0 ± 1.4" in text


def test_one_suite_at_several_radii_has_one_report(tmp_path: Path) -> None:
    other = [finished_run("pgd", "none", seed, 0.9, 0.5, digest="other") for seed in (0, 1)]
    for item in other:
        evaluation = item.evaluations.pop(SUITE)
        item.evaluations["standard-1"] = evaluation | {"suite": evaluation["suite"] | {"threat": {"eps": "4/255"}}}
    study = write_study(tmp_path, [*RUNS, *other])
    make_report(study, tmp_path / "results")
    text = (tmp_path / "results/table.md").read_text()
    assert "none (evaluation.threat.eps=8/255)" in text and "none (evaluation.threat.eps=4/255)" in text


def test_runs_of_another_suite_are_listed(tmp_path: Path) -> None:
    other = finished_run("pgd", "l1", 0, 0.9, 0.7)
    other.evaluations = {"quick-9": other.evaluations[SUITE]}
    make_report(write_study(tmp_path, [*RUNS, other]), tmp_path / "results")
    assert "pgd x l1, seed 0 was not evaluated by standard" in (tmp_path / "results/table.md").read_text()


def test_precision_and_units() -> None:
    values = pd.Series([0.5, 0.6])
    assert (
        format_mean_and_sd(values, Metric("x", 1, 2)) == "0.55 ± 0.07"
        and format_mean_and_sd(values, Metric("x"), precision=0) == "55 ± 7"
    )
    assert format_mean_and_sd(None, Metric("x")) == format_mean_and_sd(pd.Series(dtype=float), Metric("x")) == MISSING


def test_each_robust_accuracy_has_a_badge() -> None:
    columns = ["test/clean", "attacks", "test/worst_case", "best:test/worst_case"]
    signs = badges([*AUDITED, *RUNS[:1]], "standard")
    shown = table(frame([*AUDITED, *RUNS[:1]], "standard"), columns, ["pgd"], badges=signs).set_index("attack")
    assert shown["clean %"].tolist() == ["98.0", "90.0 ± 0.0", "90.0 ± 0.0", "90.0"], "a clean accuracy has none"
    assert shown["PGD %"].tolist() == ["10.0", "50.0 ± 0.0 ✗", "50.0 ± 0.0 ✓", "50.0 !"], (
        "the worst status over seeds; none without an audit"
    )
    assert shown["worst case %"].tolist() == shown["PGD %"].tolist()
    assert not shown["worst case % (best)"].str.contains("[✓✗!]").any(), "only the last checkpoint was audited"


def test_audit_findings_are_reported(tmp_path: Path) -> None:
    found = findings(AUDITED, "standard", "last")
    assert found[["attack", "check", "verdict", "mean"]].to_numpy().tolist() == [
        ["fgsm", "steps", "warned for 1 of 2", "3.0 %"],
        ["fgsm", "zero_gradients", "failed for 1 of 2", "3.0 %"],
        ["trades", "steps", "warned for 1 of 1", "3.0 %"],
    ]
    make_report(write_study(tmp_path, AUDITED), tmp_path / "results")
    text = (tmp_path / "results/table.md").read_text()
    assert "failed for 1 of 2" in text and "✗ it failed for some seed" in text
    make_report(write_study(tmp_path / "good", AUDITED[2:4]), tmp_path / "good/results")
    assert "Every check passed." in (tmp_path / "good/results/table.md").read_text()


def test_the_eps_curve_is_drawn_if_measured(tmp_path: Path) -> None:
    made = [dataclasses.replace(r, evaluations=copy.deepcopy(r.evaluations)) for r in RUNS]
    for finished in made:
        metrics = {f"curve/{factor}": 0.9 / (1 + factor) for factor in (0, 0.5, 1)} | {"curve/area": 0.6}
        finished.evaluations[SUITE]["checkpoints"]["last"]["metrics"] |= metrics
    make_report(write_study(tmp_path, made), tmp_path / "results")
    assert (tmp_path / "results/radii.png").stat().st_size > 10_000
    assert "| area under the eps curve % |" in (tmp_path / "results/table.md").read_text().replace("  ", " ").replace("  ", " ")
    assert "median distance" not in (tmp_path / "results/table.md").read_text(), "no empty column"
    make_report(write_study(tmp_path / "other", RUNS), tmp_path / "other/results")
    assert not (tmp_path / "other/results/radii.png").exists()


def test_strength_is_drawn_if_swept(tmp_path: Path) -> None:
    swept = [
        finished_run("pgd", "l2", seed, 0.9 - s / 100, 0.7, digest=f"l2{s}", config=RUNS[0].config | {"strength": s})
        for s in (0.1, 1, 10)
        for seed in (0, 1)
    ]
    assert strengths_of([*RUNS, *swept]) == {"nonel2": 1, "l20.1": 0.1, "l21": 1, "l210": 10}
    make_report(write_study(tmp_path, [*RUNS, *swept]), tmp_path / "results")
    assert (tmp_path / "results/strength.png").stat().st_size > 10_000
    axes = strength_figure(frame([*RUNS, *swept], "standard"), strengths_of(swept)).axes
    assert len(axes) == 6 and [axis.get_ylabel() for axis in axes[::3]] == ["attack: none", "attack: pgd"]
    clean = cast(Any, axes[3].containers[0]).lines[0]
    assert clean.get_xdata() == pytest.approx([0.1, 1, 10]) and clean.get_ydata() == pytest.approx([89.9, 89, 80])
    assert axes[3].lines[0].get_ydata() == pytest.approx([91, 91]), "the cell without penalties is a horizontal line"


def test_strengths_that_differ_only_between_penalties_are_no_sweep(tmp_path: Path) -> None:
    tuned = [
        finished_run("pgd", penalty, 0, 0.9, 0.7, config=RUNS[0].config | {"strength": s})
        for penalty, s in (("l1", 0.1), ("l2", 3))
    ]
    assert strengths_of(tuned) == {}
    make_report(write_study(tmp_path, [*RUNS[3:], *tuned]), tmp_path / "results")
    assert not (tmp_path / "results/strength.png").exists()
    assert "Strengths: pgd x l1 0.1, pgd x l2 3." in (tmp_path / "results/table.md").read_text()


def test_the_pareto_front() -> None:
    x, y = pareto_front(np.array([1.0, 2, 3, 2.5, 3]), np.array([5.0, 4, 1, 2, 0]))
    assert list(x) == [1, 2, 2.5, 3] and list(y) == [5, 4, 2, 1]


def test_the_suite_of_most_runs_is_reported() -> None:
    other = finished_run("pgd", "l1", 0, 0.9, 0.7)
    other.evaluations["autoattack-1"] = other.evaluations[SUITE]
    assert choose_suite([*RUNS, other]) == "standard"
    assert choose_suite([*RUNS, other], "autoattack") == "autoattack"
    with pytest.raises(ValueError, match="Available: autoattack, standard"):
        choose_suite([*RUNS, other], "full")


def test_among_equally_frequent_suites_the_one_with_most_attacks_is_reported() -> None:
    several = finished_run("pgd", "l1", 0, 0.9, 0.7)
    wide = several.evaluations[SUITE]["suite"] | {"attacks": {"pgd": {}, "square": {}}}
    several.evaluations = {"curve-1": several.evaluations[SUITE], "standard-0": several.evaluations[SUITE] | {"suite": wide}}
    assert choose_suite([several]) == "standard"
    assert (
        choose_suite([several, dataclasses.replace(several, evaluations={"curve-1": several.evaluations["curve-1"]})])
        == "curve"
    )


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    for name in ("one", "other"):
        make_report(study, tmp_path / name)
    made = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    for path in made:
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes(), path.name
    assert {path.suffix for path in made} == {".html", ".bib", ".csv", ".md", ".tex", ".png", ".pdf"}


def test_every_number_is_in_runs_csv(tmp_path: Path) -> None:
    make_report(write_study(tmp_path, RUNS), tmp_path / "results")
    data = pd.read_csv(tmp_path / "results/runs.csv", keep_default_na=False)
    row = data[(data.attack == "pgd") & (data.seed == 1) & (data.checkpoint == "last") & (data.metric == "test/pgd")]
    assert row.value.astype(float).item() == 0.72 and row.kind.item() == "combined"


def test_damaged_and_failed_runs_are_reported_and_left_out(tmp_path: Path) -> None:
    study = write_study(
        tmp_path, [*RUNS, finished_run("pgd", "l1", 0, 0, 0, status="failed", error="it diverged\nTraceback …")]
    )
    broken = study / "none+l2-nonel2" / "seed-0" / RECORD
    broken.write_text(broken.read_text()[:300])
    shown = "\n".join(str(line) for line in make_report(study, tmp_path / "results"))
    text = (tmp_path / "results/table.md").read_text()
    for output in (shown, text):
        assert str(broken) in output and "pgd x l1, seed 0 failed: it diverged" in output and "Traceback" not in output


def test_a_study_without_finished_runs_has_no_report(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    assert "no run" in make_report(tmp_path / "study", tmp_path / "results")[0]


@pytest.mark.latex
def test_latex_compiles(tmp_path: Path) -> None:
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed")
    many = [
        finished_run("trades", "l2", s, 0.9, 0.7, digest=str(s), config=RUNS[0].config | {"strength": s}) for s in range(1, 60)
    ]
    make_report(write_study(tmp_path, [*RUNS[:3], *AUDITED, *many]), tmp_path / "results")
    tex = (tmp_path / "results/table.tex").read_text()
    bibliography = r"\bibliographystyle{plain}\bibliography{references}"
    for name in ("accuracy", "comparison"):
        assert (tmp_path / f"results/tables/{name}.tex").read_text() in tex
    whole = rf"\documentclass{{article}}{PACKAGES}\begin{{document}}" + f"\n{tex}\n{bibliography}" + r"\end{document}"
    (tmp_path / "paper.tex").write_text(whole)
    shutil.copyfile(tmp_path / "results/references.bib", tmp_path / "references.bib")
    pdflatex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for command in (pdflatex, ["bibtex", "paper"], pdflatex, pdflatex):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert b"undefined" not in done.stdout, "every citation is resolved"
    overfull = re.findall(r"Overfull .hbox \((\d+)", done.stdout.decode(errors="replace"))
    assert all(int(points) < 5 for points in overfull), "no table is wider than the page"


def test_latex_special_characters_are_escaped() -> None:
    shown = pd.DataFrame([{"attack": "pgd_l2", "penalty": "a & b", "clean %": "97.0 ± 1.0", "n": MISSING}])
    tex = to_latex(shown, "100 % of it")
    assert r"pgd\_l2" in tex and r"a \& b" in tex and r"clean \%" in tex and r"$\pm$" in tex and "--" in tex


def test_a_report_can_be_regenerated_with_other_settings(temper: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    write_study(tmp_path / "outputs", RUNS)
    status, output = temper("report", "study=study", "table.precision=2", "table.tables={accuracy:[test/clean]}")
    assert status == 0 and "97.00 ± 1.41" in output, output
    assert "97.00 ± 1.41" in Path("results/study/table.md").read_text()
