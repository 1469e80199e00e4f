"""Tests of records: reading, writing, older formats, provenance."""

import json
from pathlib import Path

import pytest

from temper.config.cell import identity_settings
from temper.runs.identity import code_digest, suite_key, targets_of
from temper.runs.provenance import provenance
from temper.runs.record import RECORD, RunRecord, collect


def record(**changes: object) -> RunRecord:
    values: dict[str, object] = {
        "status": "finished",
        "study": "s",
        "attack": "pgd",
        "penalty": "l2",
        "kind": "combined",
        "digest": "0" * 8,
        "seed": 0,
        "config": {"seed": 0},
        "code": "c",
    }
    return RunRecord(**(values | changes))  # type: ignore[arg-type]


def test_write_and_read(tmp_path: Path) -> None:
    written = record(curves={"val/clean": [0.5, float("nan")]}, cost={"seconds": 1.5})
    written.write(tmp_path)
    read = RunRecord.read(tmp_path)
    assert read.curves == {"val/clean": [0.5, None]} and read.cost == {"seconds": 1.5} and read.seed == 0
    json.loads((tmp_path / RECORD).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_openml_numbers_of_older_records_are_converted(tmp_path: Path) -> None:
    source = {"_target_": "temper.data.TableFile", "path": "creditcard.csv", "openml": 1597}
    record(config={"data": {"source": dict(source)}}).write(tmp_path)
    config = RunRecord.read(tmp_path).config
    assert config["data"]["source"]["openml"] == {"creditcard.csv": 1597}
    assert identity_settings(config) == identity_settings({"data": {"source": source}}), "the cell digest is unchanged"


def test_loss_stability_of_older_records_is_read_as_loss_instability(tmp_path: Path) -> None:
    evaluation = {"suite": {"attacks": {}}, "checkpoints": {}, "run": {"val/loss_stability": 0.12}}
    record(evaluations={"standard-1": evaluation}).write(tmp_path)
    assert RunRecord.read(tmp_path).evaluations["standard-1"]["run"] == {"val/loss_instability": 0.12}


def test_text_sources_of_older_records_are_converted(tmp_path: Path) -> None:
    source = {"train": "/a/reviews.csv", "test": None, "text": "review", "label": "stars", "labels": ["bad", "good"]}
    record(config={"data": {"source": source}}).write(tmp_path)
    converted = RunRecord.read(tmp_path).config["data"]["source"]
    assert converted == {
        "root": ".", "path": "/a/reviews.csv", "test": None, "text": "review", "target": "stars", "positive": "good"
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", '{"status": "finis', "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1, "colour": 2}']
)
def test_unreadable_records_are_reported(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "cell" / "seed-0"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(text)
    with pytest.raises(ValueError, match=str(folder / RECORD)):
        RunRecord.read(folder)
    (tmp_path / "other-00000000" / "seed-0").mkdir(parents=True)
    record().write(tmp_path / "other-00000000" / "seed-0")
    records, problems = collect(tmp_path)
    assert len(records) == 1 and len(problems) == 1 and str(folder) in problems[0]


def test_runs_set_aside_are_not_collected(tmp_path: Path) -> None:
    for name in ("seed-0", "seed-0.stale-abc", "seed--1"):
        (tmp_path / "cell-00000000" / name).mkdir(parents=True)
        record(seed=-1 if name == "seed--1" else 0).write(tmp_path / "cell-00000000" / name)
    assert len(collect(tmp_path)[0]) == 2


def test_suite_keys_depend_on_the_settings_only() -> None:
    assert suite_key({"name": "standard", "steps": 50}) != suite_key({"name": "standard", "steps": 51})
    assert suite_key({"name": "a", "b": 1, "c": 2}) == suite_key({"c": 2, "b": 1, "name": "a"})


def test_code_digest_covers_external_attacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_one.py").write_text("class Attack: ...")
    (tmp_path / "mine_two.py").write_text("class Attack: strong = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    digests = {code_digest(targets_of({"attack": {"_target_": target}})) for target in ("mine_one.Attack", "mine_two.Attack")}
    assert len(digests | {code_digest()}) == 3


def test_targets_are_found_at_any_depth() -> None:
    config = {"a": {"_target_": "x.A", "b": [{"_target_": "y.B"}]}, "c": 3}
    assert targets_of(config) == {"x.A", "y.B"}


def test_provenance_names_versions_and_hardware() -> None:
    made_by = provenance()
    assert made_by["versions"]["torch"] and made_by["versions"]["python"] and made_by["hardware"]["cores"] >= 1
