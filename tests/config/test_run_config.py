"""The config is parsed once: every value has one form, every wrong key is named, nothing is lost."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from temper.config.composed import CONF
from temper.config.errors import ConfigError
from temper.config.run_config import parse
from tests.conftest import FILES, composed
from tests.test_experiments import cells

EXPERIMENTS = sorted(path.stem for path in (Path(CONF) / "experiment").glob("*.yaml"))
# What an option needs beside itself.
NEEDED: dict[str, tuple[str, ...]] = {
    "model=external": ("model.factory=torchvision.models:resnet18",),
    "model=timm": ("model.name=resnet18",),
    "model=hf_transformer": ("data=csv_text", f"data.source.path={FILES / 'reviews.csv'}", "model.name=bert"),
    "model=text_cnn": ("data=csv_text", f"data.source.path={FILES / 'reviews.csv'}", "data.length=8"),
    "model=text_transformer": ("data=csv_text", f"data.source.path={FILES / 'reviews.csv'}", "data.length=8"),
    "data=csv_text": (f"data.source.path={FILES / 'reviews.csv'}",),
}
# Options of data that need files, or are bases of others.
ELSEWHERE = ["csv", "csv_text", "creditcard", "image_folder", "imagenette", "imdb", "nsl_kdd", "sms_spam", "sst2", "table"]
ELSEWHERE += ["texts", "tiny_imagenet", "torchvision"]


def options() -> list[str]:
    found = []
    for group in ("attack", "penalty", "model", "optimizer", "schedule", "evaluation", "trainer", "logger", "data", "debug"):
        for path in sorted((Path(CONF) / group).rglob("*.yaml")):
            name = str(path.relative_to(Path(CONF) / group).with_suffix(""))
            if not (group == "data" and name in ELSEWHERE) and not (group == "evaluation" and name == "suite"):
                found.append(f"{group}={name}" if group not in ("penalty", "logger") else f"{group}=[{name}]")
    return found


@pytest.mark.parametrize("option", options())
def test_every_option_parses_and_reads_back(option: str) -> None:
    others = NEEDED.get(option, ())
    if "pang2021" in option or "rice2020" in option or "fastat2026" in option:
        others = ("data=cifar10",)
    run = composed(option, *others)
    assert parse(run.plain()) == run
    assert pickle.loads(pickle.dumps(run)) == run, "launchers ship it to workers"


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name != "search"])
def test_every_cell_of_every_experiment_parses(experiment: str) -> None:
    for cell in cells(experiment):
        run = cell
        assert parse(run.plain()) == run
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    "spellings",
    [
        ("seed=3", 'seed="3"', "seed=3.0"),
        ("strength=0.5", "strength=1/2", 'strength="0.5"', "strength=5e-1"),
        ("threads=1", 'threads="1"', "threads=1.0"),
        ("penalty.l2.weight=1", "penalty.l2.weight=1.0", "penalty.l2.weight='1'", "penalty.l2.weight=2/2"),
        (
            "data.threats.linf.eps=0.125",
            "data.threats.linf.eps=1/8",
            "data.threats.linf.eps=2/16",
            "data.threats.linf.eps=.125",
        ),
        ("data.threats.linf.eps=0.5/255", "data.threats.linf.eps=1/510"),
        ("data.threats.l2.eps=1", "data.threats.l2.eps=1.0"),
        ("trainer.precision=16", "trainer.precision=16-mixed", "trainer.precision='16'"),
        ("trainer.precision=32", "trainer.precision=32-true"),
        ("trainer.max_epochs=3", 'trainer.max_epochs="3"', "trainer.max_epochs=3.0"),
        ("evaluation.batch_size=64", 'evaluation.batch_size="64"'),
        ("attack.steps=7", 'attack.steps="7"', "attack.steps=7.0"),
        ('attack.step_size="0.25 eps"', "attack.step_size=0.25eps", "attack.step_size='1/4 eps'"),
        ("optimizer.lr=1", "optimizer.lr=1.0", "optimizer.lr='1'"),
        ("model.width=8", "model.width=8.0"),
        ("trainer.gradient_clip_val=1", "trainer.gradient_clip_val=1.0"),
    ],
    ids=lambda spellings: spellings[0],
)
def test_every_spelling_of_a_value_is_one_value(spellings: tuple[str, ...]) -> None:
    base = ("attack=pgd", "penalty=l2")
    first, *others = [composed(*base, spelling) for spelling in spellings]
    for other in others:
        assert other == first and other.plain() == first.plain()
        assert type(other.seed) is int


def test_fractions_and_batches_of_the_trainer_are_told_apart() -> None:
    one, all_of_them = (composed(f"trainer.limit_train_batches={value}") for value in ("1", "1.0"))
    assert one.trainer.limit_train_batches == 1 and type(one.trainer.limit_train_batches) is int
    assert type(all_of_them.trainer.limit_train_batches) is float


# A wrong command line, and what its one line names.
MISTAKES: dict[str, str] = {
    "+atack=pgd": "atack: there is no such key. Did you mean attack?",
    "+dryrun=true": "dryrun: there is no such key. Did you mean dry_run?",
    "+attack.step=3": r"attack.step: PGD has no such setting. Did you mean steps\?",
    "+penalty.l2.wieght=3": r"penalty.l2.wieght: L2 has no such setting. Did you mean weight\?",
    "+evaluation.atacks.pgd=3": r"evaluation.atacks: there is no such key. Did you mean attacks\?",
    "+data.treats.linf=3": r"data.treats: DataModule has no such setting. Did you mean threats\?",
    "+data.threats.linf.epsilon=1": r"data.threats.linf.epsilon: Linf has no such setting. Did you mean eps\?",
    "+trainer.max_epoch=1": r"trainer.max_epoch: Trainer has no such setting. Did you mean max_epochs\?",
    "seed=a": "seed=a: should be a whole number",
    "seed=1.5": "seed=1.5: should be a whole number",
    "seed=true": "seed=true: should be a whole number",
    "strength=nan": "strength=nan: should be a number",
    "strength=inf": "strength=inf: should be a finite number",
    "strength=-1": "strength=-1: should be greater than or equal to 0",
    "threads=0": "threads=0: should be greater than or equal to 1",
    "dry_run=yes": "dry_run=yes: should be true or false",
    "dry_run=1": "dry_run=1: should be true or false",
    "stale=kep": "stale=kep: should be 'ask', 'keep' or 'rerun'",
    "study='a b'": "study=a b: should be a plain name",
    "study=../x": r"study=\.\./x: should be a plain name",
    "attack.name='pgd 8/255'": "attack.name=pgd 8/255: should be a plain name",
    "attack.name='../../esc'": r"attack.name=\.\./\.\./esc: should be a plain name",
    "evaluation.name='../x'": r"evaluation.name=\.\./x: should be a plain name",
    "validation.name=null": "validation.name=null: should be a plain name",
    "validation.name=clean": "validation.name=clean: is the name of another metric",
    "+evaluation.attacks.clean={_target_: temper.attacks.PGD, threat: '${evaluation.threat}'}": "evaluation.attacks.clean",
    "evaluation.attacks.pgd._target_=temper.penalties.L2": "_target_=temper.penalties.L2: is not a subclass of",
    "attack._target_=temper.attacks.Nothing": "attack._target_=temper.attacks.Nothing: cannot be imported",
    "attack._target_=os.system": "attack._target_=os.system: ",
    "attack.threat=3": "attack.threat=3: should be an object with a _target_",
    "attack.threat=${data.threats.lin}": "data.threats.lin",
    "attack.steps=x": "attack.steps=x: should be a whole number",
    "attack.steps=0": "attack.steps=0: should be greater than or equal to 1",
    "attack.steps=true": "attack.steps=true: should be a whole number",
    "attack.loss=cee": "attack.loss=cee: should be 'ce', 'margin' or 'dlr'",
    "data.threats.linf.eps=1_0/255": "data.threats.linf.eps=1_0/255: should be a number",
    "data.threats.linf.eps='٣'": "data.threats.linf.eps=٣: should be a number",
    "data.threats.linf.eps=8//255": "data.threats.linf.eps=8//255: should be a number",
    "data.threats.linf.eps=8/0": "data.threats.linf.eps=8/0: should be a number",
    "data.threats.linf.eps=0": "data.threats.linf.eps=0: should be greater than 0",
    "trainer.precision=64": "trainer.precision=64: should be 32-true, bf16-mixed or 16-mixed",
    "trainer.accumulate_grad_batches=-1": "trainer.accumulate_grad_batches=-1: should be a whole number of at least 1",
    "trainer.accumulate_grad_batches=1.5": "trainer.accumulate_grad_batches=1.5: should be a whole number of at least 1",
    "trainer.accumulate_grad_batches=abc": "trainer.accumulate_grad_batches=abc: should be a whole number of at least 1",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val=-1: should be greater than 0",
    "trainer.limit_val_batches=0": "trainer.limit_val_batches=0: should be a number of batches of at least 1",
    "trainer.limit_train_batches='1'": "trainer.limit_train_batches=1: should be a number of batches",
    "+trainer.num_nodes=2": "trainer.num_nodes=2: should be 1",
    "trainer.devices=0": "trainer.devices=0: should be a number of devices",
    "+trainer.callbacks=[]": "trainer.callbacks: is not for the config",
    "+trainer.logger=false": "trainer.logger: is not for the config, since a run sets it itself. Choose logger=",
    "+trainer.plugins=[]": "trainer.plugins: is not for the config",
    "+trainer.enable_checkpointing=false": "trainer.enable_checkpointing: is not for the config",
    "+trainer.fast_dev_run=true": "trainer.fast_dev_run: is not for the config, since a run sets it itself. Use debug=fdr",
    "+trainer.check_val_every_n_epoch=2": "trainer.check_val_every_n_epoch: is not for the config",
    "optimizer.nesterov=abc": "optimizer.nesterov=abc: should be true or false",
    "optimizer.lr=a": "optimizer.lr=a: should be a number",
    "model.width=1.5": "model.width=1.5: should be a whole number",
    "model.compile=yes": "model.compile=yes: should be",
    "data.mean=[nan]": "data.mean.0=nan: should be a number",
    "penalty.l2=3": "penalty.l2=3: should be an object with a _target_",
    "penalty.l2=null": "penalty.l2=null: should be an object with a _target_",
    "~evaluation.name": "evaluation.name: is missing",
    "keep_checkpoints=[worst]": r"keep_checkpoints.0=worst: should be 'best' or 'last'",
    "published=3": "published=3: should be a list",
}


@pytest.mark.parametrize(("mistake", "message"), MISTAKES.items(), ids=list(MISTAKES))
def test_a_mistake_is_one_line_that_names_the_key_and_the_way_out(mistake: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        composed("attack=pgd", "penalty=l2", mistake)
    assert 1 <= len(str(raised.value).splitlines()) <= 3


def test_all_wrong_keys_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        composed("attack=pgd", "+atack=pgd", "seed=a", "attack.steps=0", "trainer.precision=64", "data.threats.linf.eps=true")
    lines = str(raised.value).splitlines()
    named = ("atack", "seed", "attack.steps", "trainer.precision", "data.threats.linf.eps")
    assert all(any(line.startswith(key) for line in lines) for key in named)
    assert len(lines) == len(named), "a threat is named once, not wherever the config refers to it"


def test_nothing_in_a_run_can_be_set() -> None:
    run: Any = composed()
    with pytest.raises(ValueError):
        run.seed = 1
    with pytest.raises(AttributeError):
        run.attack.target = "x"
