"""User errors: short messages with the key or file and the remedy, before anything is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import QUICK

Temper = Callable[..., tuple[int, str]]

MISTAKES = {
    "unknown option": (("attack=pdg",), "attack=pdg: there is no such option. Did you mean pgd?"),
    "misspelled key": (("attack=pgd", "attack.stepz=3"), "stepz"),
    "added key": (("attack=pgd", "+attack.stepz=3"), "attack.stepz: PGD has no such setting. Did you mean steps?"),
    "wrong type": (("attack=pgd", "attack.steps=few"), "attack.steps=few: should be a whole number"),
    "eps in 0-255": (("data.threats.linf.eps=8",), "did you mean 8/255?"),
    "eps in 0-255, in the attack": (("attack=pgd", "attack.eps=8"), "did you mean 8/255?"),
    "l2 eps beyond all inputs": (
        ("data.threats.l2.eps=128", "attack=pgd_l2"),
        "attack.threat.eps=128: exceeds the largest l2 distance",
    ),
    "negative weight": (
        ("penalty=l2", "penalty.l2.weight=-1"),
        "penalty.l2.weight=-1: should be greater than or equal to 0",
    ),
    "weight that is not a number": (("penalty=l2", "penalty.l2.weight=heavy"), "penalty.l2.weight"),
    "p outside [0, 1]": (
        ("penalty=dropout", "penalty.dropout.p=1.5"),
        "penalty.dropout.p=1.5: should be less than or equal to 1",
    ),
    "p scaled outside": (("penalty=dropout", "strength=10"), "penalty.dropout.p"),
    "negative strength": (("strength=-1",), "strength=-1: should be greater than or equal to 0"),
    "decay in the optimizer": (("optimizer.weight_decay=5e-4",), "penalty=weight_decay"),
    "seed": (("seed=one",), "seed=one: should be a whole number"),
    "unknown norm": (("evaluation.norm=l7",), "l7"),
    "unknown torchattack": (("attack=torchattacks", "attack.attack=Nonsense"), "no attack named 'Nonsense'"),
    "no attacks in a suite": (("~evaluation.attacks.fgsm", "~evaluation.attacks.pgd"), "evaluation.attacks"),
    "missing checkpoint": (("ckpt_path=nowhere.ckpt",), "ckpt_path=nowhere.ckpt: there is no such file"),
    "checkpoints": (("keep_checkpoints=[first]",), "keep_checkpoints"),
    "stale": (("stale=maybe",), "stale=maybe: should be 'ask', 'keep' or 'rerun'"),
    "missing data": (("data=mnist", "data.source.download=false", "paths.data=nowhere"), "paths.data=FOLDER"),
    "invalid split": (("data.val_fraction=1.5",), "data.val_fraction=1.5: should be less than 1"),
    "too few examples for the classes": (("data.test_size=9",), "data.test_size"),
    "wrong _target_": (
        ("penalty=l2", "penalty.l2._target_=torch.nn.Linear"),
        "penalty.l2._target_=torch.nn.Linear: is not a subclass of temper.penalties.Penalty",
    ),
    "missing _target_": (("attack=pgd", "attack._target_=temper.attacks.Nothing"), "Nothing"),
    "learning rate": (("optimizer.lr=-1",), "optimizer: Invalid learning rate"),
    "learning rate that is not a number": (("optimizer.lr=fast",), "optimizer"),
    "nesterov without momentum": (("optimizer.momentum=0",), "optimizer: Nesterov"),
    "precision": (("trainer.precision=bananas",), "trainer"),
    "weights in half precision": (("trainer.precision=bf16-true",), "bf16-mixed"),
    "no epochs": (("trainer.max_epochs=0",), "trainer.max_epochs=0: should be a whole number of at least 1"),
    "no threads": (("threads=0",), "threads=0: should be greater than or equal to 1"),
    "no runs on a GPU": (("runs_per_gpu=0",), "runs_per_gpu=0: should be greater than or equal to 1"),
    "several runs without a GPU": (("runs_per_gpu=2",), "runs_per_gpu=2: runs with trainer.accelerator=cpu use no GPU"),
    "how many checkpoints": (("keep_checkpoints=2",), "keep_checkpoints=2: should be a list"),
    "no validation": (("validation=null",), "validation=null: should be an object with a _target_"),
    "attack for color images": (
        ("attack=torchattacks", "attack.attack=TIFGSM"),
        "attack: does not work with this data and model",
    ),
}


@pytest.mark.parametrize("sweep", [(), pytest.param(("-m",), marks=pytest.mark.slow)], ids=["run", "sweep"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_user_errors_are_reported_without_a_traceback(mistake: str, sweep: tuple[str, ...], temper: Temper) -> None:
    overrides, message = MISTAKES[mistake]
    status, output = temper("train", *sweep, *QUICK, *overrides)
    assert status != 0 and message in output, output
    assert "Traceback" not in output and len(output.strip().splitlines()) <= 30, output
    assert not list(Path("outputs").rglob("*.ckpt")), "nothing was trained"
    assert not list(Path("outputs").rglob("result.json")), "a user error must not leave a failed run"


def test_penalty_without_a_place_in_the_model(temper: Temper) -> None:
    status, output = temper("train", "model=preact_resnet18", "model.width=2", "penalty=batch_norm")
    assert status == 1 and "penalty.batch_norm: PreActResNet18 has no place" in output and "no effect" in output


WITHOUT_EFFECT = {
    "weight 0": (("penalty=l2", "penalty.l2.weight=0"), "penalty.l2 has no effect"),
    "p 0": (("penalty=dropout", "penalty.dropout.p=0"), "penalty.dropout has no effect"),
    "strength without penalties": (("strength=2",), "strength=2 has no effect"),
    "strength of batch norm": (("penalty=batch_norm", "strength=2"), "strength=2 has no effect"),
    "weak evaluation": (("attack=pgd", "attack.steps=40"), "takes at most 20 attack steps, but the training attack takes 40"),
    "evaluation at a smaller radius": (("attack=pgd", "attack.eps=0.2"), "is smaller than eps=0.2 of the training attack"),
}


@pytest.mark.parametrize("setting", WITHOUT_EFFECT)
def test_settings_without_effect_give_a_warning(setting: str, temper: Temper) -> None:
    overrides, message = WITHOUT_EFFECT[setting]
    status, output = temper("train", *QUICK, "-m", "dry_run=true", *overrides)
    assert status == 0 and "warning: " in output and message in output, output


@pytest.mark.parametrize("mode", [(), ("-m",)])
def test_unwritable_output_folder(mode: tuple[str, ...], temper: Temper) -> None:
    Path("taken").write_text("a file in place of a folder")
    status, output = temper("train", *QUICK, "paths.outputs=taken/here", *mode)
    assert status == 1 and "taken" in output and "paths.outputs" in output and "Traceback" not in output, output


def test_unknown_study(temper: Temper) -> None:
    Path("outputs/mine").mkdir(parents=True)
    status, output = temper("report", "study=yours")
    assert status == 1 and "outputs/yours" in output and "mine" in output and "Traceback" not in output


def test_unknown_metric(temper: Temper) -> None:
    temper("train", *QUICK, "study=mine")
    status, output = temper("report", "study=mine", "table.tables.accuracy=[test/nothing]")
    assert status == 1 and "test/nothing" in output and "runs.csv" in output and "Traceback" not in output
    status, output = temper("report", "study=mine", "suite=autoattack")
    assert status == 1 and "no finished run" in output and "Available: quick" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attack=null",), "attack=null: should be an option of the group. Use attack=none"),
        (("model=resnet18",), "model=resnet18: there is no such option. Did you mean preact_resnet18?"),
        (("penalty=[l2,dropot]",), "penalty=dropot: there is no such option. Did you mean dropout?"),
        (("atack=pgd",), "atack: there is no such key. Did you mean attack?"),
        (("+atack=pgd",), "atack: there is no such key. Did you mean attack?"),
        (("attack=pgd", "attack.stepz=3"), "attack.stepz: this config has no such key"),
        (("seed=0..4",), "seed=0..4: should be a whole number; several seeds are seed=0,1,2"),
        (("-m", "attack=glob(zzz*)"), "attack=glob(zzz*): this grid has no run"),
    ],
)
def test_names_that_do_not_exist_end_in_one_line_with_the_nearest_right_one(
    temper: Temper, arguments: tuple[str, ...], message: str
) -> None:
    status, output = temper("train", *arguments, "dry_run=true")
    assert status == 1 and message in output
    assert len(output.strip().splitlines()) <= 3 and "Traceback" not in output
