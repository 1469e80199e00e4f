"""Tabular examples: the changed columns, and the predictions before and after an attack."""

from pathlib import Path

import numpy as np
import pytest

from temper.report import make_report
from temper.report.examples.tabular_examples import MAX_COLUMNS, UNCHANGED, changes_table, kept_rows, rows_to_markdown
from temper.report.records.representatives import RepresentativeRun, representative_runs
from tests.report.page.test_page import KINDS, Elements
from tests.report.test_pipeline import SUITE, write_study

COLUMNS = [*(f"v{place}" for place in range(9)), "age|years", "job"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write runs whose attack changes all numbers of two rows, and the job of the second row, which fools the networks."""
    clean = np.array([[*("1" for _ in range(9)), "30", "baker"], [*("2" for _ in range(9)), "40", "<unknown>"]])
    changed, moved = clean.copy(), np.zeros(clean.shape)
    changed[:, :9], moved[:, :9] = "1.5", 0.5
    moved[:, 0] += 1e-8  # a rounding error
    moved[:, 8] = 0.7
    changed[1, 10], moved[1, 10] = "pilot", 1
    folder = write_study(tmp_path, KINDS)
    for path in folder.glob("*/seed-*"):
        (path / "evaluations" / SUITE).mkdir(parents=True)
        arrays = {
            "y": np.array([0, 1, 1]),
            "examples": np.array([0, 2]),
            "clean_prediction": np.array([0, 1, 1], dtype=np.int16),
            "pgd_prediction": np.array([0, 1, 0], dtype=np.int16),
            "clean_loss": -np.log([0.9, 0.5, 0.8]),
            "pgd_loss": -np.log([0.6, 0.5, 0.2]),
            "columns": np.array(COLUMNS),
            "rows/clean": clean,
            "rows/pgd": changed,
            "moved/clean": np.zeros(clean.shape),
            "moved/pgd": moved,
        }
        np.savez(path / "evaluations" / SUITE / "last.npz", allow_pickle=False, **arrays)
    return folder


def representatives(study: Path) -> list[RepresentativeRun]:
    return representative_runs(KINDS, [study])


def test_columns_with_the_largest_changes_are_shown(study: Path) -> None:
    shown, problems = kept_rows(representatives(study), [SUITE] * 3, "last")
    assert not problems and [row.label for row in shown] == [1, 0], "examples that fool networks come first"
    table, note = changes_table(shown[0])
    assert table.columns[2] == "standard: none x none, seed 0 under pgd" and table.shape[1] == 5
    assert table.iloc[0].tolist()[:3] == ["prediction", "label 1", "1 ✓ 80 % → 0 ✗ 20 %"]
    assert table["column"].tolist()[1:] == [*COLUMNS[:6], "v8", "job"], "in the order of the data set"
    assert len(table) == MAX_COLUMNS + 1 and note == "2 more columns changed."
    assert table.iloc[-1].tolist()[1:3] == ["<unknown>", "**pilot**"]
    table, note = changes_table(shown[1])
    assert "job" not in table["column"].tolist() and note == "1 more column changed."


def test_columns_that_the_attack_on_one_network_leaves_unchanged(study: Path) -> None:
    path = representatives(study)[0].folder / "evaluations" / SUITE / "last.npz"
    with np.load(path) as arrays:
        np.savez(path, allow_pickle=False, **{**arrays, "rows/pgd": arrays["rows/clean"]})
    table, _ = changes_table(kept_rows(representatives(study), [SUITE] * 3, "last")[0][0])
    assert set(table.iloc[1:, 2]) == {UNCHANGED} and UNCHANGED not in set(table.iloc[1:, 3])


def test_damaged_files_are_reported_and_the_others_shown(study: Path) -> None:
    runs = representatives(study)
    path = runs[0].folder / "evaluations" / SUITE / "last.npz"
    with np.load(path) as arrays:
        np.savez(path, allow_pickle=False, **{**arrays, "columns": arrays["columns"][:3]})
    shown, problems = kept_rows(runs, [SUITE] * 3, "last")
    assert len(shown[0].predictions) == 2
    assert len(problems) == 1 and problems[0].startswith("examples of standard none x none, seed 0 are left out")


def test_examples_are_on_the_page_and_in_the_tables(study: Path, tmp_path: Path) -> None:
    make_report(study, tmp_path / "results")
    page = (tmp_path / "results/index.html").read_text()
    assert "<strong>pilot</strong>" in page and "&lt;unknown&gt;" in page and "2 more columns changed." in page
    assert not Elements(page).open
    assert "**pilot**" in (tmp_path / "results/table.md").read_text()
    text = rows_to_markdown(kept_rows(representatives(study), [SUITE] * 3, "last")[0])
    assert "&lt;unknown&gt;" in text and "1 more column changed." in text
