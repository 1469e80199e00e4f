"""Examples of rows: what an attack made of their columns, and what each network says before and after."""

from pathlib import Path

import numpy as np
import pytest

from temper.report import make_report
from temper.report.examples.tabular_examples import MOST, SAME, kept_rows, rows_to_markdown, tabulated
from temper.report.records.representatives import Pick, one_of_each_kind
from tests.report.page.test_page import KINDS, Elements
from tests.report.test_pipeline import SUITE, written

COLUMNS = [*(f"v{place}" for place in range(9)), "age|years", "job"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The first attack changes all numbers but one of two rows, and the job of the second, which fools the networks."""
    clean = np.array([[*("1" for _ in range(9)), "30", "baker"], [*("2" for _ in range(9)), "40", "<unknown>"]])
    changed, moved = clean.copy(), np.zeros(clean.shape)
    changed[:, :9], moved[:, :9] = "1.5", 0.5
    moved[:, 0] += 1e-8  # no more than a rounding error
    moved[:, 8] = 0.7
    changed[1, 10], moved[1, 10] = "pilot", 1
    folder = written(tmp_path, KINDS)
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


def picked(study: Path) -> list[Pick]:
    return one_of_each_kind(KINDS, [study])


def test_the_columns_that_moved_furthest_are_told(study: Path) -> None:
    shown, problems = kept_rows(picked(study), [SUITE] * 3, "last")
    assert not problems and [row.label for row in shown] == [1, 0], "what fools comes first"
    table, more = tabulated(shown[0])
    assert table.columns[2] == "standard: none x none, seed 0 under pgd" and table.shape[1] == 5
    assert table.iloc[0].tolist()[:3] == ["taken for", "label 1", "1 ✓ 80 % → 0 ✗ 20 %"]
    assert table["column"].tolist()[1:] == [*COLUMNS[:6], "v8", "job"], "in the order of the table"
    assert len(table) == MOST + 1 and more == "2 more columns are changed."
    assert table.iloc[-1].tolist()[1:3] == ["<unknown>", "**pilot**"]
    table, more = tabulated(shown[1])
    assert "job" not in table["column"].tolist() and more == "1 more column is changed."


def test_what_one_network_lost_to_may_leave_another_as_it_is(study: Path) -> None:
    path = picked(study)[0].folder / "evaluations" / SUITE / "last.npz"
    with np.load(path) as arrays:
        np.savez(path, allow_pickle=False, **{**arrays, "rows/pgd": arrays["rows/clean"]})
    table, _ = tabulated(kept_rows(picked(study), [SUITE] * 3, "last")[0][0])
    assert set(table.iloc[1:, 2]) == {SAME} and SAME not in set(table.iloc[1:, 3])


def test_damaged_files_are_named_and_the_others_shown(study: Path) -> None:
    picks = picked(study)
    path = picks[0].folder / "evaluations" / SUITE / "last.npz"
    with np.load(path) as arrays:
        np.savez(path, allow_pickle=False, **{**arrays, "columns": arrays["columns"][:3]})
    shown, problems = kept_rows(picks, [SUITE] * 3, "last")
    assert len(shown[0].readings) == 2
    assert len(problems) == 1 and problems[0].startswith("examples of standard none x none, seed 0 are left out")


def test_they_stand_on_the_page_and_in_the_tables(study: Path, tmp_path: Path) -> None:
    make_report(study, tmp_path / "results")
    page = (tmp_path / "results/index.html").read_text()
    assert "<strong>pilot</strong>" in page and "&lt;unknown&gt;" in page and "2 more columns are changed" in page
    assert not Elements(page).open
    assert "**pilot**" in (tmp_path / "results/table.md").read_text()
    text = rows_to_markdown(kept_rows(picked(study), [SUITE] * 3, "last")[0])
    assert "&lt;unknown&gt;" in text and "1 more column is changed." in text
