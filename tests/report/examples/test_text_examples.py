"""Examples of texts: the words that were exchanged, and what each network says before and after."""

from pathlib import Path

import numpy as np
import pytest

from temper.report import make_report
from temper.report.examples.text_examples import exchanged, kept_texts, texts_to_markdown
from temper.report.records.representatives import Pick, one_of_each_kind
from tests.report.page.test_page import KINDS, Elements
from tests.report.test_pipeline import SUITE, written

CLEAN = ["a <unk> film", "good & *bold* | fun", "dull"]
CHANGED = ["a <unk> moving picture", "bad & *bold* | fun", "dull"]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The attack of the first suite exchanges words of two texts, and fools the networks with the second of them."""
    folder = written(tmp_path, KINDS)
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


def picked(study: Path) -> list[Pick]:
    return one_of_each_kind(KINDS, [study])


def test_the_words_that_were_exchanged_are_told(study: Path) -> None:
    shown, problems = kept_texts(picked(study), [SUITE] * 3, "last")
    assert not problems and [text.original for text in shown] == [CLEAN[1], CLEAN[0], CLEAN[2]], "what fools comes first"
    assert [len(text.readings) for text in shown] == [3, 3, 3], "standard, adversarial, regularized"
    reading = shown[0].readings[1]
    assert reading.title == "adversarial: pgd x none, seed 0 under pgd"
    words = exchanged(shown[0].original, str(reading.made))
    assert words[0] == ("bad", True) and not any(other for _, other in words[1:])
    assert (str(reading.before), str(reading.after)) == ("1 ✓ 80 %", "0 ✗ 20 %")
    assert shown[2].readings[0].made is None


def test_damaged_files_are_named_and_the_others_shown(study: Path) -> None:
    picks = picked(study)
    (picks[0].folder / "evaluations" / SUITE / "last.npz").write_bytes(b"PK half")
    shown, problems = kept_texts(picks, [SUITE] * 3, "last")
    assert len(shown[0].readings) == 2
    make_report(study, study.parent / "results")
    told = (study.parent / "results/table.md").read_text()
    assert told.count("examples of standard none x none, seed 0 are left out") == 1, "once for all that was kept"
    assert len(problems) == 1 and problems[0].startswith("examples of standard none x none, seed 0 are left out")


def test_no_word_is_a_mark_of_markdown(study: Path) -> None:
    text = texts_to_markdown(kept_texts(picked(study), [SUITE] * 3, "last")[0])
    assert r"**bad** &amp; \*bold\* \| fun" in text and "a &lt;unk&gt; **moving** **picture**" in text and "unchanged" in text


def test_they_stand_on_the_page_and_in_the_tables(study: Path, tmp_path: Path) -> None:
    make_report(study, tmp_path / "results")
    page = (tmp_path / "results/index.html").read_text()
    assert "<mark>bad</mark> &amp; *bold* | fun" in page and '<span class="wrong">after 0 ✗ 20 %</span>' in page
    assert not Elements(page).open
    assert "**bad**" in (tmp_path / "results/table.md").read_text()
