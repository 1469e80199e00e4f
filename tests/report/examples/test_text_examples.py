"""Text examples: the replaced words, and the predictions before and after an attack."""

from pathlib import Path

import numpy as np
import pytest

from temper.report import make_report
from temper.report.examples.text_examples import kept_texts, texts_to_markdown, word_changes
from temper.report.records.representatives import RepresentativeRun, representative_runs
from tests.report.page.test_page import KINDS, Elements
from tests.report.test_pipeline import SUITE, write_study

CLEAN = ["a <unk> film", "good & *bold* | fun", "dull"]
CHANGED = ["a <unk> moving picture", "bad & *bold* | fun", "dull"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write runs whose attack replaces words of two texts and fools the networks with the second one."""
    folder = write_study(tmp_path, KINDS)
    for path in folder.glob("*/seed-*"):
        (path / "evaluations" / SUITE).mkdir(parents=True)
        arrays = {
            "y": np.array([0, 1, 1, 0]),
            "examples": np.array([0, 1, 3]),
            "clean": np.array([True, True, False, True]),
            "pgd": np.array([True, False, False, True]),
            "clean_prediction": np.array([0, 1, 0, 0], dtype=np.int16),
            "pgd_prediction": np.array([0, 0, 0, 0], dtype=np.int16),
            "clean_loss": -np.log([0.9, 0.8, 0.3, 0.7]),
            "pgd_loss": -np.log([0.6, 0.2, 0.3, 0.7]),
            "texts/clean": np.array(CLEAN),
            "texts/pgd": np.array(CHANGED),
        }
        np.savez(path / "evaluations" / SUITE / "last.npz", allow_pickle=False, **arrays)
    return folder


def representatives(study: Path) -> list[RepresentativeRun]:
    return representative_runs(KINDS, [study])


def test_replaced_words_are_marked(study: Path) -> None:
    shown, problems = kept_texts(representatives(study), [SUITE] * 3, "last")
    assert not problems and [text.original for text in shown] == [CLEAN[1], CLEAN[0], CLEAN[2]], (
        "examples that fool networks come first"
    )
    assert [len(text.predictions) for text in shown] == [3, 3, 3], "standard, adversarial, regularized"
    prediction = shown[0].predictions[1]
    assert prediction.title == "adversarial: pgd x none, seed 0 under pgd"
    words = word_changes(shown[0].original, str(prediction.perturbed))
    assert words[0] == ("bad", True) and not any(changed for _, changed in words[1:])
    assert (str(prediction.before), str(prediction.after)) == ("1 ✓ 80 %", "0 ✗ 20 %")
    assert shown[2].predictions[0].perturbed is None


def test_damaged_files_are_reported_and_the_others_shown(study: Path) -> None:
    runs = representatives(study)
    (runs[0].folder / "evaluations" / SUITE / "last.npz").write_bytes(b"PK half")
    shown, problems = kept_texts(runs, [SUITE] * 3, "last")
    assert len(shown[0].predictions) == 2
    make_report(study, study.parent / "results")
    text = (study.parent / "results/table.md").read_text()
    assert text.count("examples of standard none x none, seed 0 are left out") == 1, "a damaged file is reported once"
    assert len(problems) == 1 and problems[0].startswith("examples of standard none x none, seed 0 are left out")


def test_markdown_in_texts_is_escaped(study: Path) -> None:
    text = texts_to_markdown(kept_texts(representatives(study), [SUITE] * 3, "last")[0])
    assert r"**bad** &amp; \*bold\* \| fun" in text and "a &lt;unk&gt; **moving** **picture**" in text and "unchanged" in text


def test_examples_are_on_the_page_and_in_the_tables(study: Path, tmp_path: Path) -> None:
    make_report(study, tmp_path / "results")
    page = (tmp_path / "results/index.html").read_text()
    assert "<mark>bad</mark> &amp; *bold* | fun" in page and '<span class="wrong">after 0 ✗ 20 %</span>' in page
    assert not Elements(page).open
    assert "**bad**" in (tmp_path / "results/table.md").read_text()
