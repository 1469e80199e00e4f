"""Tests of the W&B logger: files of real offline runs are read back and compared with the record."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from temper.attacks import PGD, Cascade, Linf
from temper.data import DataModule, Loader
from temper.evaluation import attack_all
from temper.models import CNN
from temper.runs.identity import RunIdentity
from temper.runs.record import RunRecord, load_outcomes
from temper.training.loggers import wandb_identity
from temper.training.wandb_logger import WandbLogger, direction
from temper.training.wandb_summary import contact_sheet, final_numbers, input_images, perturbation_images
from tests.cli.test_run import kill
from tests.conftest import QUICK, composed

Temper = Callable[..., tuple[int, str]]
AUDITED = ("evaluation.audit={_target_:temper.evaluation.Audit,threat:${evaluation.threat},size:20,steps:2,queries:5}",)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield


def wandb_records(path: Path) -> list[dict[str, Any]]:
    """Return the contents of a run's file, as printed by W&B's own reader."""
    return [json.loads(line) for line in _inspect("--json", path).splitlines()]


def wandb_summary(path: Path) -> dict[str, Any]:
    """Return state, summary and config of a run, as printed by W&B's own reader."""
    return json.loads(_inspect("--summary", "--json", path))


def _inspect(*arguments: str | Path) -> str:
    reader = Path(sys.executable).with_name("wandb")
    return subprocess.run([reader, "leet", "inspect", *arguments], capture_output=True, text=True, check=True).stdout


def history(path: Path) -> list[dict[str, Any]]:
    return [item["history"]["item"] for item in wandb_records(path) if item["type"] == "history"]


def only_file(study: str) -> Path:
    """Return the file of the only run that `wandb leet` and `wandb sync` see in a study."""
    (path,) = Path(f"outputs/{study}/wandb").glob("*/*.wandb")
    return path


def logged_table(path: Path, key: str) -> tuple[list[str], list[list[Any]]]:
    (file,) = path.parent.glob(f"files/media/table/{key}_*.table.json")
    table = json.loads(file.read_text())
    return table["columns"], table["data"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunRecord, str]]:
    """Train a run that logs everything; yield its folder, its record and the key of its evaluation."""
    folder = tmp_path_factory.mktemp("logged")
    settings = ["logger=[csv,wandb]", "attack=pgd", "penalty=l2", *QUICK, *AUDITED, "trainer.max_epochs=3"]
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_DATA_DIR": str(folder / "user-data")}
    result = subprocess.run(
        [sys.executable, "-m", "temper.cli.train", *settings], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    (run,) = folder.glob("outputs/default/*/seed-0")
    record = RunRecord.read(run)
    (suite,) = record.evaluations
    yield run, record, suite


def file_of(run: Path) -> Path:
    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    return path


@pytest.mark.slow
def test_curves_and_final_metrics_equal_the_record(logged: tuple[Path, RunRecord, str]) -> None:
    run, record, suite = logged
    rows = history(file_of(run))
    curves = [row for row in rows if "val/clean" in row]
    assert [row["epoch"] for row in curves] == [row["_step"] for row in curves] == [0, 1, 2], "each epoch once, at its own step"
    for name, values in record.curves.items():
        assert [row[name] for row in curves] == values, name
    assert {"train/risk", "train/penalty", "val/clean", "val/pgd"} <= set(curves[0]), "risk and penalty are separate"
    summary = wandb_summary(file_of(run))["summary"]
    numbers = final_numbers(record, suite)
    assert {name: summary[name] for name in numbers} == numbers
    metrics = record.evaluations[suite]["checkpoints"]["last"]["metrics"]
    assert summary["last/test/pgd"] == metrics["test/pgd"] and summary["cost/seconds"] == record.cost["seconds"]
    assert summary["last/audit/verdict"] in ("passed", "warned", "failed")


@pytest.mark.slow
def test_run_metadata_and_better_directions(logged: tuple[Path, RunRecord, str]) -> None:
    run, record, _ = logged
    items = wandb_records(file_of(run))
    run_item = next(item["run"] for item in items if item["type"] == "run")
    assert run_item["project"] == "temper" and run_item["run_group"] == run.parent.name and run_item["job_type"] == "combined"
    assert run_item["tags"] == ["default"] and run_item["run_id"].startswith(f"default-{record.digest}-0-{record.code}")
    config = wandb_summary(file_of(run))["config"]
    assert config["cell"] == {"attack": "pgd", "penalty": "l2", "kind": "combined", "digest": record.digest}
    assert config["made_by"]["code"] == record.code and config["made_by"]["commit"] == record.commit
    assert config["optimizer"]["lr"] == record.config["optimizer"]["lr"]
    better = {
        item["metric"]["name"]: [goal for goal in ("max", "min") if item["metric"].get("summary", {}).get(goal)]
        for item in items
        if item["type"] == "metric" and "name" in item["metric"]
    }
    for name, goal in {"val/pgd": "max", "train/risk": "min", "last/test/pgd": "max", "last/gap/robust": "min"}.items():
        assert better[name] == [goal]
    assert better["cost/seconds"] == ["min"] and "train/penalty" not in better
    curves, summary = record.curves, wandb_summary(file_of(run))["summary"]
    assert summary["val/pgd"] == {"max": max(curves["val/pgd"]), "last": curves["val/pgd"][-1]}
    assert summary["train/risk"]["min"] == min(curves["train/risk"])


@pytest.mark.slow
def test_tables_equal_the_record(logged: tuple[Path, RunRecord, str]) -> None:
    run, record, suite = logged
    path, checkpoints = file_of(run), record.evaluations[suite]["checkpoints"]
    columns, rows = logged_table(path, "final/results")
    assert columns == ["checkpoint", "epoch", "attack", "accuracy", "loss"]
    assert [row[:3] for row in rows] == [
        [name, checkpoints[name]["epoch"], attack]
        for name in ("best", "last")
        for attack in ("clean", "fgsm", "pgd", "worst_case")
    ]
    for checkpoint, _, attack, accuracy, _ in rows:
        assert accuracy == checkpoints[checkpoint]["metrics"][f"test/{attack}"]
    _, rows = logged_table(path, "final/audit")
    findings = {(row[0], row[1]): (row[2], row[3]) for row in rows}
    for name, checkpoint in checkpoints.items():
        for check, finding in checkpoint["audit"].items():
            assert findings[name, check] == (finding["status"], pytest.approx(finding["figure"]))


@pytest.mark.slow
def test_confusion_matrix_is_under_the_strongest_attack(logged: tuple[Path, RunRecord, str]) -> None:
    run, record, suite = logged
    metrics = record.evaluations[suite]["checkpoints"]["last"]["metrics"]
    strongest = min(("fgsm", "pgd"), key=lambda name: metrics[f"test/{name}"])
    arrays = load_outcomes(run, suite, "last")
    columns, rows = logged_table(file_of(run), "final/confusion_table")
    assert columns == ["Actual", "Predicted", "nPredictions"]
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (arrays["y"], arrays[f"{strongest}_prediction"]), 1)
    assert {(row[0], row[1]): row[2] for row in rows} == {(str(i), str(j)): counts[i, j] for i in range(10) for j in range(10)}
    assert counts.trace() / counts.sum() == pytest.approx(metrics[f"test/{strongest}"]), "the diagonal is the robust accuracy"


@pytest.mark.slow
def test_examples_equal_the_outcomes_and_are_staged_in_the_run_folder(logged: tuple[Path, RunRecord, str]) -> None:
    run, _, suite = logged
    path, arrays = file_of(run), load_outcomes(run, suite, "last")
    columns, rows = logged_table(path, "final/examples")
    assert columns[:5] == ["example", "label", "prediction, clean", "prediction, fgsm", "prediction, pgd"]
    assert columns[5].startswith("clean input") and [row[0] for row in rows] == arrays["examples"].tolist() and len(rows) == 8
    for row, label, clean, *attacked, _ in rows:
        assert (label, clean) == (arrays["y"][row], arrays["clean_prediction"][row])
        for name, prediction in zip(("fgsm", "pgd"), attacked, strict=True):
            assert prediction == arrays[f"{name}_prediction"][row] and (prediction == label) == arrays[name][row]
    for name in ("fgsm", "pgd"):
        assert np.abs(arrays[f"examples/{name}"] - arrays["examples/clean"]).max() <= 2 / 16 + 1e-6
    assert len(list(path.parent.glob("files/media/images/final/pictures_*.png"))) == 1
    staged = [file for file in (run / "wandb/staged").rglob("*") if file.is_file() and file.read_bytes()[1:4] == b"PNG"]
    assert len(staged) == 8, "the images of the table are staged here"
    assert not (run.parents[3] / "user-data").exists(), "nothing is left in the user's data folder"


@pytest.mark.slow
def test_interrupted_run_continues_its_curves(temper: Temper, tmp_path: Path) -> None:
    """Kill a run after the third epoch: it keeps its id, leaves one file for `wandb sync`, and logs every epoch once."""
    settings = ("attack=pgd", *QUICK, "trainer.max_epochs=8", "logger=[csv,wandb]", "study=killed")
    command = [sys.executable, "-m", "temper.cli.train", *settings]
    # Independent processes, not clients of this process's W&B service.
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    kill(command, "killed", "epoch 3 ", environment=environment)
    first = only_file("killed")
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and "resuming from" in result.stderr, result.stderr
    path = only_file("killed")
    run_item = next(item["run"] for item in wandb_records(path) if item["type"] == "run")
    assert path != first and first.name == path.name == f"run-{run_item['run_id']}.wandb", "one id"
    (run,) = Path("outputs/killed").glob("*/seed-0")
    assert len(list(run.glob("wandb/superseded/*/*.wandb"))) == 1, "nothing is deleted"
    curves = RunRecord.read(run).curves
    rows = [row for row in history(path) if "val/clean" in row]
    assert [row["epoch"] for row in rows] == [row["_step"] for row in rows] == list(range(8))
    for name, values in curves.items():
        assert [row[name] for row in rows] == values, name
    state = wandb_summary(path)
    assert state["state"] == "finished"
    subprocess.run([Path(sys.executable).with_name("wandb"), "sync", "--dry-run", "outputs/killed/wandb"], check=True)


@pytest.mark.slow
def test_failed_run_ends_with_its_exit_status_and_error(temper: Temper) -> None:
    status, _ = temper("train", "logger=[csv,wandb]", "optimizer.lr=1e30", *QUICK)
    assert status == 1
    path = only_file("default")
    assert next(item["exit"]["exit_code"] for item in wandb_records(path) if item["type"] == "exit") == 1
    assert "diverged" in wandb_summary(path)["summary"]["error"]


@pytest.mark.slow
def test_retried_evaluation_logs_all_curves(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a failed evaluation, where no epoch is left to train that would log the earlier ones."""
    with monkeypatch.context() as patch:
        patch.setattr("temper.cli.run.evaluate_checkpoints", _broken)
        assert temper("train", "logger=[csv,wandb]", *QUICK)[0] == 1
    assert temper("train", "logger=[csv,wandb]", *QUICK)[0] == 0
    rows = history(only_file("default"))
    assert [row["epoch"] for row in rows if "val/clean" in row] == [0, 1] and "final/results.path" in rows[-1]


def _broken(*_: object, **__: object) -> None:
    raise ValueError("no evaluation today")


@pytest.mark.slow
def test_run_is_logged_offline_if_the_server_cannot_be_reached(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(WandbLogger, "reachable", True)
    status, output = temper("train", "logger=[csv,wandb]", "logger.wandb.settings.init_timeout=3", *QUICK)
    assert status == 0, output
    assert "logged offline" in output and "last/test/clean" in wandb_summary(only_file("default"))["summary"]


@pytest.mark.slow
def test_36_runs_of_a_grid_are_36_finished_wandb_runs(temper: Temper) -> None:
    """Run six cells with six seeds in one process: each run has its own id, curves and exit status."""
    status, output = temper(
        "train", "-m", "logger=[csv,wandb]", "attack=none,fgsm,pgd", "penalty=none,l2", "seed=0,1,2,3,4,5", "study=grid", *QUICK
    )
    assert status == 0, output
    files = sorted(Path("outputs/grid/wandb").glob("*/*.wandb"))
    assert len(files) == 36
    ids, names = set(), set()
    for path in files:
        state = wandb_summary(path)
        assert state["state"] == "finished" and state["exit_code"] == 0, state["state"]
        record = RunRecord.read(path.resolve().parents[2])
        ids.add(state["run_id"])
        names.add(state["name"])
        (suite,) = record.evaluations
        numbers = final_numbers(record, suite)
        assert {name: state["summary"][name] for name in numbers} == numbers
        assert state["config"]["seed"] == record.seed and state["config"]["cell"]["digest"] == record.digest
    assert len(ids) == len(names) == 36


@pytest.mark.slow
def test_each_run_of_a_sweep_ends_with_its_own_exit_status(temper: Temper) -> None:
    """Run four jobs in one process, two of which fail."""
    status, output = temper("train", "logger=[csv,wandb]", "optimizer.lr=0.1,1e30", "seed=0,1", "study=grid", "-m", *QUICK)
    assert status == 1, output
    files = sorted(Path("outputs/grid").glob("*/*/wandb/offline-run-*/*.wandb"))
    assert len(files) == 4
    exits = []
    for path in files:
        record = RunRecord.read(path.parents[2])
        exits.append(next(item["exit"].get("exit_code", 0) for item in wandb_records(path) if item["type"] == "exit"))
        assert exits[-1] == (not record.finished)
    assert sorted(exits) == [0, 0, 1, 1]


def test_id_depends_on_the_identity_of_the_run() -> None:
    """Keep the id when only loggers or threads differ; change it with seed, cell or study."""

    def run_id(*overrides: str, study: str = "default") -> str:
        return wandb_identity(study, RunIdentity.of(composed(*overrides)))["id"]

    first = run_id("attack=pgd", "seed=1")
    assert first == run_id("seed=1", "attack=pgd", "logger=[csv,wandb]", "threads=2")
    others = {run_id(), run_id("attack=pgd"), run_id("attack=pgd", "seed=1", study="x")}
    assert len(others | {first}) == 4
    assert not set(":;,#?/' ") & set(run_id(study="a:b, c")) and len(run_id(study="x" * 300)) <= 128


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        ("val/clean", "max"),
        ("last/test/worst_case", "max"),
        ("last/test/minimal_norm", "max"),
        ("last/curve/area", "max"),
        ("val/gap", "min"),
        ("val/pgd_loss", "min"),
        ("last/test/ece", "min"),
        ("last/test/sensitivity_random", "min"),
        ("run/gap/robust_overfitting", "min"),
        ("run/val/overfitting_to_fgsm", "min"),
        ("cost/gradient_evaluations", "min"),
        ("last/weights/lipschitz", "min"),
        ("last/weights/norm", None),
        ("val/zero_gradients", None),
        ("train/penalty", None),
        ("train/ratio/l2", None),
        ("train/weight/l2", None),
        ("last/audit/steps", None),
    ],
)
def test_better_direction(metric: str, goal: str | None) -> None:
    assert direction(metric) == goal


def test_predictions_and_kept_points_match_the_outcomes(trained: CNN, digits: DataModule) -> None:
    """Recompute predictions from the kept points, for different batch sizes."""
    x, y = digits.split("test")
    pgd = PGD(threat=Linf(eps=0.06), steps=5, start="zero")
    attacks = {"pgd": pgd, "cascade": Cascade(attacks={"a": PGD(threat=Linf(eps=0.06))})}
    outcomes = attack_all(trained, attacks, Loader(x, y, batch_size=100), seed=0, keep=8)
    for name in attacks:
        assert torch.equal(outcomes.predicted[name] == y, outcomes.robust[name]), "correct under attack means robust"
    assert outcomes.kept.tolist() == [number * len(y) // 8 for number in range(8)]
    assert torch.equal(outcomes.points["clean"], x[outcomes.kept]) and "cascade" not in outcomes.points
    with torch.no_grad():
        seen = trained(outcomes.points["pgd"]).argmax(1)
    withstand = outcomes.clean[outcomes.kept]
    assert torch.equal(seen[withstand], outcomes.predicted["pgd"][outcomes.kept][withstand])
    small = attack_all(trained, {"pgd": pgd}, Loader(x[:5], y[:5], batch_size=2), seed=0, keep=8)
    assert small.kept.tolist() == [0, 1, 2, 3, 4] and small.points["pgd"].shape == x[:5].shape
    assert "examples" not in attack_all(trained, {}, Loader(x[:5], y[:5], batch_size=2), seed=0).arrays()


def test_images_show_the_perturbation() -> None:
    clean = np.full((2, 1, 8, 8), 0.5, np.float32)
    attacked = clean.copy()
    attacked[0, 0, 0, 0] += 0.1
    attacked[0, 0, 7, 7] -= 0.05
    changed = perturbation_images(attacked - clean)
    assert changed.shape == (2, 64, 64, 3)
    assert (changed[0, :8, :8] == 255).all() and (changed[0, 56:, 56:] == 64).all() and (changed[0, 8:56] == 128).all()
    assert (changed[1] == 128).all(), "no change is gray"
    sheet = contact_sheet({"examples/clean": clean, "examples/pgd": attacked, "pgd": np.ones(2)})
    assert sheet is not None and sheet.shape == (2 * 68, 3 * 68, 3)


@pytest.mark.parametrize("points", [np.zeros((3, 20)), np.zeros((3, 5, 8, 8)), np.full((3, 1, 8, 8), -1.0)])
def test_inputs_that_are_not_images_have_no_image(points: np.ndarray) -> None:
    assert input_images(points) is None and contact_sheet({"examples/clean": points}) is None
    assert contact_sheet({}) is None
