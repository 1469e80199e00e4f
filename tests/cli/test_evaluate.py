"""Tests of temper-evaluate on runs, studies, checkpoints and external networks."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from temper.models import External
from tests.conftest import FILES, QUICK

Temper = Callable[..., tuple[int, str]]


def record(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return values


@pytest.fixture
def study(temper: Temper) -> Path:
    """Return the folder of a study with two trained runs, evaluated by the quick suite."""
    status, output = temper("train", *QUICK, "attack=none,pgd", "study=two", "-m")
    assert status == 0, output
    return Path("outputs/two")


def runs(study: Path) -> list[Path]:
    return sorted(path.parent for path in study.glob("*/seed-*/result.json"))


def test_second_suite_is_added_to_the_record(study: Path, temper: Temper) -> None:
    run = runs(study)[0]
    before = record(run)
    status, output = temper("evaluate", f"path={run}", "evaluation=curve", "evaluation.curve.steps=3", "evaluation.norm=l2")
    assert status == 0 and "worst_case" in output, output
    after = record(run)
    first, second = after["evaluations"]
    assert after["evaluations"][first] == before["evaluations"][first], "the first evaluation must not change"
    assert second.startswith("curve-")
    threat = after["evaluations"][second]["suite"]["threat"]
    assert threat["_target_"].endswith("L2") and threat["eps"] == 0.8, "the threat of the run's data for the given norm"
    assert {"best.npz", "last.npz"} == {path.name for path in (run / "evaluations" / second).iterdir()}
    stamp = (run / "result.json").stat().st_mtime_ns
    assert temper("evaluate", f"path={run}", "evaluation=curve", "evaluation.curve.steps=3", "evaluation.norm=l2")[0] == 0
    assert (run / "result.json").stat().st_mtime_ns == stamp, "a finished evaluation is not repeated"


def test_evaluate_gives_the_same_numbers_as_train(study: Path, temper: Temper) -> None:
    """Both commands give bit-identical numbers for a suite."""
    run = next(path for path in runs(study) if "pgd" in path.parent.name)
    assert temper("evaluate", f"path={run}", "evaluation=curve", "evaluation.curve.steps=3")[0] == 0
    overrides = ("attack=pgd", "study=again", "evaluation=curve", "evaluation.curve.steps=3")
    assert temper("train", *[o for o in QUICK if o != "evaluation=quick"], *overrides)[0] == 0
    one, other = (
        next(e for k, e in record(path)["evaluations"].items() if k.startswith("curve"))
        for path in (run, *runs(Path("outputs/again")))
    )
    assert one["checkpoints"] == other["checkpoints"] and one["suite"] == other["suite"] and one["run"] == other["run"]


def test_study_is_evaluated_and_reported_with_transfer(study: Path, temper: Temper) -> None:
    small = ("evaluation=standard", "evaluation.attacks.pgd.steps=5", "evaluation.attacks.square.queries=10",
             "evaluation.audit.size=30", "evaluation.audit.steps=3", "evaluation.audit.queries=5")  # fmt: skip
    status, output = temper("evaluate", f"path={study}", *small, "transfer=true")
    assert status == 0 and "transfer: 2 runs" in output and "Marks after a robust accuracy" in output, output
    for run in runs(study):
        key = next(key for key in record(run)["evaluations"] if key.startswith("standard"))
        finding = record(run)["evaluations"][key]["checkpoints"]["last"]["audit"]["transfer"]
        assert 0 <= finding["figure"] <= 1 and finding["source"].startswith(("none", "pgd"))
        assert finding["source"] != f"{run.parent.name}/{run.name}"
    table = Path("results/two/table.md").read_text()
    assert "## Audit" in table and any(sign in table for sign in "✓!✗")
    tex = Path("results/two/table.tex").read_text()
    assert "✓" not in tex and "✗" not in tex


def test_single_checkpoint_of_a_run_and_a_copy_of_it(study: Path, temper: Temper) -> None:
    run = runs(study)[0]
    inside = run / "checkpoints" / "last.ckpt"
    assert temper("evaluate", f"path={inside}", "evaluation=curve", "evaluation.curve.steps=2")[0] == 0
    key = list(record(run)["evaluations"])[-1]
    assert list(record(run)["evaluations"][key]["checkpoints"]) == ["last"]
    shutil.copy(inside, "moved.ckpt")
    assert temper("evaluate", "path=moved.ckpt", "evaluation=curve", "evaluation.curve.steps=2")[0] == 0
    (elsewhere,) = runs(Path("outputs/evaluated"))
    found = next(iter(record(elsewhere)["evaluations"].values()))["checkpoints"]
    assert found["moved"]["metrics"] == record(run)["evaluations"][key]["checkpoints"]["last"]["metrics"]


def test_interrupted_evaluation_is_resumed(study: Path, temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    from temper.attacks import PGD
    from temper.evaluation import ledger

    run = runs(study)[0]
    arguments = (f"path={run}", "evaluation=standard", "evaluation.audit=null", "evaluation.batch_size=20",
                 "evaluation.attacks.square.queries=10")  # fmt: skip
    monkeypatch.setattr(ledger, "MIN_SECONDS_TO_STORE", 0.0)
    perturb, calls = PGD.perturb, 0

    def interrupted_perturb(self: PGD, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:  # the first two calls validate the attacks
            raise KeyboardInterrupt
        return perturb(self, *arguments)

    monkeypatch.setattr(PGD, "perturb", interrupted_perturb)
    status, output = temper("evaluate", *arguments)
    assert status != 0 and "Run the same command again to resume" in output
    pieces = list(run.glob("evaluations/standard-*/pieces/*/*.npz"))
    assert len(pieces) == 4 and len(record(run)["evaluations"]) == 1
    assert temper("evaluate", *arguments)[0] == 0
    assert not list(run.glob("evaluations/*/pieces")), "partial results are deleted"
    key = list(record(run)["evaluations"])[-1]
    arrays = {path.name: dict(np.load(path)) for path in (run / "evaluations" / key).glob("*.npz")}
    monkeypatch.setattr(PGD, "perturb", perturb)
    values = record(run)
    interrupted = values["evaluations"].pop(key)
    (run / "result.json").write_text(json.dumps(values))
    assert temper("evaluate", *arguments)[0] == 0
    assert record(run)["evaluations"][key]["checkpoints"] == interrupted["checkpoints"]
    for name, before in arrays.items():
        for column, values in np.load(run / "evaluations" / key / name).items():
            np.testing.assert_array_equal(before[column], values)


EXTERNAL_MODULE = """
import torch

def make(width=8, classes=10):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, classes))

def nothing():
    return 3
"""


@pytest.fixture
def external(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "external_nets.py").write_text(EXTERNAL_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "external_nets:make"
    sys.modules.pop("external_nets", None)


def test_external_network_writes_the_same_kind_of_record(external: str, temper: Temper, tmp_path: Path) -> None:
    module = External(factory=external, shape=[1, 8, 8], classes=10)
    torch.save({"state_dict": {k: v + 0.1 for k, v in module.module.state_dict().items()}}, tmp_path / "weights.pt")
    torch.jit.script(module.module).save(str(tmp_path / "scripted.pt"))
    variants = {
        external: (),
        "scripted.pt": ("model.factory=scripted.pt",),
        "weights": ("model.weights=weights.pt",),
        "timm": ("model.factory=timm:resnet10t", "+model.arguments.num_classes=10", "+model.arguments.in_chans=1"),
        "normalized": ("model.mean=${data.mean}", "model.std=${data.std}"),
    }
    clean = {}
    for name, overrides in variants.items():
        factory = () if any("factory" in o for o in overrides) else (f"model.factory={external}",)
        status, output = temper("evaluate", *factory, *overrides, "evaluation=quick", "data.test_size=60", f"study={name[:6]}")
        assert status == 0 and "external:" in output, output
        (run,) = runs(Path("outputs") / name[:6])
        found = record(run)
        assert found["kind"] == "external" and found["attack"].startswith(("external_nets", "scripted", "timm"))
        (evaluation,) = found["evaluations"].values()
        clean[name] = evaluation["checkpoints"]["last"]["metrics"]["test/loss"]
    assert clean[external] == pytest.approx(clean["scripted.pt"])
    assert len({round(value, 5) for value in clean.values()}) == 4
    status, output = temper("report", "study=timm")
    assert status == 0 and "timm_resnet10t" in output, output


def test_new_weights_in_the_same_file_are_a_new_network(external: str, temper: Temper, tmp_path: Path) -> None:
    """A file whose weights changed is evaluated again, and the earlier record stays."""
    module = External(factory=external, shape=[1, 8, 8], classes=10).module
    losses = set()
    for scale in (1.0, 3.0, 3.0):
        torch.save({name: scale * value for name, value in module.state_dict().items()}, tmp_path / "weights.pt")
        arguments = (f"model.factory={external}", "model.weights=weights.pt", "evaluation=quick", "data.test_size=60")
        assert temper("evaluate", *arguments)[0] == 0
        for path in runs(Path("outputs/evaluated")):
            (evaluation,) = record(path)["evaluations"].values()
            losses.add(evaluation["checkpoints"]["last"]["metrics"]["test/loss"])
    assert len(losses) == len(runs(Path("outputs/evaluated"))) == 2
    assert temper("evaluate", *arguments, "evaluation.norm=l2")[0] == 0
    assert len(runs(Path("outputs/evaluated"))) == 2, "a second suite goes into the same record"


def test_frozen_network_has_no_weight_statistics(external: str, temper: Temper, tmp_path: Path) -> None:
    module = External(factory=external, shape=[1, 8, 8], classes=10).module.eval()
    torch.jit.freeze(torch.jit.script(module)).save(str(tmp_path / "frozen.pt"))
    status, output = temper("evaluate", "model.factory=frozen.pt", "evaluation=quick", "data.test_size=60")
    assert status == 0, output


def test_edited_code_of_a_user_attack_is_a_new_suite(
    study: Path, temper: Temper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = "from temper.attacks import PGD\n\n\nclass Mine(PGD):\n    pass\n"
    arguments = (f"path={runs(study)[0]}", "evaluation=quick", "+evaluation.attacks.mine._target_=user_attacks.Mine",
                 "+evaluation.attacks.mine.threat=${evaluation.threat}")  # fmt: skip
    counts = []
    for version in (text, text + "# edited\n", text):
        (tmp_path / "user_attacks.py").write_text(version)
        status, output = temper("evaluate", *arguments)
        assert status == 0 and "mine" in output, output
        counts.append(len(record(runs(study)[0])["evaluations"]))
    assert counts == [2, 3, 3]
    sys.modules.pop("user_attacks", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Set path= for trained runs, or model.factory="),
        (("path=nowhere",), "there is no checkpoint and no result.json of a run or study"),
        (("transfer=true", "model.factory=external_nets:make"), "Set path= to the folder of a study"),
        (
            ("model.factory=external_nets:make", "+model.arguments.classes=7"),
            "returns [7] for each input, but the data has 10 classes",
        ),
        (("model.factory=external_nets:nothing",), "returned an object of type int. It should return a torch.nn.Module"),
        (("model.factory=external_nets:absent",), "has no attribute 'absent'"),
        (("model.factory=no_such_module:make",), "No module named 'no_such_module'"),
        (("model.factory=resnet18",), "should be package.module:function"),
        (("model.factory=torchvision:resnet18",), "does not accept inputs of shape [1, 8, 8]"),
        (("model.factory=external_nets:make", "model.weights=none.pt"), "weights: file none.pt does not exist"),
        (("model.factory=external_nets:make", "model.mean=[0.5]"), "only one of mean and std is set"),
        (("model.factory=external_nets:make", "evaluation.norm=l7"), "l7"),
        (("model.factory=external_nets:make", "evaluation.batch_size=0"), "evaluation.batch_size"),
        (("model.factory=external_nets:make", "trainer.max_epochs=9"), "trainer.max_epochs has no effect"),
        (("model.factory=external_nets:make", "stale=rerun"), "train again with temper-train"),
        (
            ("model.factory=external_nets:make", "evaluation=corruptions", "evaluation.corruptions.names=[saturate]"),
            "saturate cannot be applied",
        ),
        (
            (
                "model.factory=external_nets:make",
                "+evaluation.attacks.free._target_=temper.attacks.Free",
                "+evaluation.attacks.free.threat=${evaluation.threat}",
            ),
            "Free is for training only",
        ),
    ],
)
def test_user_errors(external: str, arguments: tuple[str, ...], message: str, temper: Temper) -> None:
    suite = () if any(argument.startswith("evaluation=") for argument in arguments) else ("evaluation=quick",)
    status, output = temper("evaluate", *arguments, *suite)
    assert status != 0 and message in output and "Traceback" not in output, output


def test_settings_without_effect_are_errors(study: Path, temper: Temper) -> None:
    run = runs(study)[0]
    status, output = temper("evaluate", f"path={run}", "model=cnn")
    assert status != 0 and "model has no effect with path=" in output
    status, output = temper("evaluate", f"path={run}", "transfer=true")
    assert status != 0 and "is not a study. Set path= to the folder of a study" in output
    status, output = temper("evaluate", f"path={run}", "evaluation.checkpoints=[first]")
    assert status != 0 and "evaluation.checkpoints" in output
    (run / "checkpoints" / "best.ckpt").unlink()
    status, output = temper("evaluate", f"path={run}", "evaluation=curve", "evaluation.curve.steps=2")
    assert status == 1 and "keep_checkpoints" in output


def test_runs_of_different_code_need_confirmation(study: Path, temper: Temper) -> None:
    run = runs(study)[0]
    values = record(run)
    (run / "result.json").write_text(json.dumps(values | {"code": "0123456789ab"}))
    arguments = (f"path={run}", "evaluation=curve", "evaluation.curve.steps=2")
    status, output = temper("evaluate", *arguments)
    assert status == 1 and "stale=keep" in output
    assert temper("evaluate", *arguments, "stale=keep")[0] == 0
    assert record(run)["code"] == "0123456789ab", "the training code in the record must not change"


def test_external_network_normalizes_its_inputs(external: str, trained: nn.Module) -> None:
    net = External(factory=external, shape=[1, 8, 8], classes=10, mean=[0.5], std=[0.25])
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(net(x), net.module((x - 0.5) / 0.25))


SMALL = [setting for setting in QUICK if not setting.startswith("model.")]


@pytest.mark.slow
def test_suite_that_fits_no_run(temper: Temper) -> None:
    status, output = temper("train", *SMALL, "data=breast_cancer", "model=mlp", "seed=0,1", "study=rows", "-m")
    assert status == 0, output
    status, output = temper("evaluate", "path=outputs/rows", "evaluation=corruptions")
    assert status == 1
    assert output.count("inputs have shape [30]. Set evaluation.corruptions=null") >= 2, output


@pytest.mark.slow
def test_transfer_between_text_networks_is_an_error(temper: Temper) -> None:
    texts = ["data=csv_text", f"data.source.path={FILES / 'reviews.csv'}", "data.length=8"]
    small = [setting for setting in SMALL if "_size" not in setting]
    status, output = temper("train", *small, *texts, "model=text_cnn", "evaluation.norm=l2", "seed=0,1", "study=texts", "-m")
    assert status == 0, output
    status, output = temper("evaluate", "path=outputs/texts", "evaluation=standard", "evaluation.norm=l2", "transfer=true")
    assert status == 1 and "embed their inputs" in output, output
