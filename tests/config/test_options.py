"""Every option in conf/ composes, builds, trains, and changes the trajectory."""

import functools
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from PIL import Image
from torch import Tensor

from temper.config.composed import CONF
from temper.data.loading import build_data
from temper.penalties import Penalty
from temper.runs.seeding import rekey
from temper.sweeps.preflight import validate
from temper.training.modules import build_module, load
from tests.conftest import FILES, composed

GROUPS = ("attack", "penalty", "data", "model", "optimizer", "schedule", "evaluation", "scale", "debug")
# What other options build on, not options themselves; data of which their files tell (tests/data), and what
# is loaded from files (tests/models/test_hf_transformer.py).
SHARED = (
    *("suite", "torchvision", "texts", "table"),
    *("csv", "nsl_kdd", "creditcard", "imagenette", "tiny_imagenet", "hf_transformer"),
)
TEXTS = ["data=csv_text", f"data.source.path={FILES / 'reviews.csv'}", "data.length=8"]
# What an option cannot know by itself, and what it is compared with.
NEEDS = {
    "breast_cancer": ["model=mlp"],
    "resnet_tabular": ["data=breast_cancer"],
    "external": ["model.factory=tests.conftest:small_net"],
    "stochastic_depth": ["model=preact_resnet18", "model.width=4"],
    "timm": ["model.name=test_resnet"],
    "image_folder": ["data.source.root=${oc.env:IMAGES}"],
    "wide_resnet_28_10": ["model.depth=10", "model.width=1"],
    "wide_resnet_34_10": ["model.depth=16", "model.width=1"],
    "max_norm": ["penalty.max_norm.limit=0.3"],  # what initial weights exceed
    "swa": ["penalty.swa.start=0.5"],  # several epochs of a short run
    "dynamic": ["penalty=[l2,dynamic]"],
    "controlled": ["penalty=[l2,controlled]"],
    "meta": ["penalty=[l1,l2,meta]"],
    "csv_text": [*TEXTS[1:], "model=text_cnn"],
    "sst2": ["model=text_cnn"],
    "imdb": ["model=text_cnn"],
    "sms_spam": ["model=text_cnn"],
    "text_cnn": TEXTS,
    "text_transformer": TEXTS,
    "text": [*TEXTS, "model=text_cnn", f"evaluation.attacks.substitution.wordnet={FILES / 'wordnet'}"],
}
WITHOUT = {
    "stochastic_depth": ["model=preact_resnet18", "model.width=4"],
    "dynamic": ["penalty=[l2]"],
    "controlled": ["penalty=[l2]"],
    "meta": ["penalty=[l1,l2]"],
}
BY_EPOCH = ("early_stopping", "ema", "swa", "controlled", "meta")  # what acts through Lightning's callbacks
DOWNLOADED = (
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "svhn",
    "sst2",
    "imdb",
    "sms_spam",
)


def options(*groups: str) -> Iterator[tuple[str, str]]:
    for group in groups:
        for path in sorted((Path(CONF) / group).glob("*.yaml")):
            if path.stem not in SHARED:
                yield group, path.stem


@functools.cache
def trajectory(*overrides: str, steps: int = 3) -> Tensor:
    """All weights after three steps of training, without Lightning around them."""
    config = (
        composed(*overrides, "model.width=4", "model.hidden=16")
        if "model=" not in " ".join(overrides)
        else composed(*overrides)
    )
    module, data = build_module(config), build_data(config)
    module.train()
    optimizer = module.optimizer(module.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: module.schedule((step + 0.5) / steps))
    batches = iter(data.loader("train", batch_size=32, seed=0))
    for step in range(steps):
        optimizer.zero_grad()
        loss = module.training_step(next(batches), step)
        loss.backward()
        module.on_after_backward()
        module.penalties.before_step(module.net, optimizer.param_groups[0]["lr"])
        optimizer.step()
        module.penalties.after_step(module.net)
        schedule.step()
    rekey(0, "end")
    return torch.cat([parameter.detach().flatten() for parameter in module.net.parameters()])


def evaluated(folder: Path, *overrides: str, epochs: int = 2) -> Tensor:
    """Return the weights of a checkpoint after a few epochs in Lightning's trainer."""
    config = composed(
        *overrides,
        "model.width=4",
        "model.hidden=16",
        "data.train_size=200",
        "validation.steps=2",
        f"trainer.max_epochs={epochs}",
    )
    module, data = build_module(config), build_data(config)
    trainer = config.trainer.build(callbacks=module.penalties.callbacks(), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(folder),
    )  # fmt: skip
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return torch.cat([parameter.detach().flatten() for parameter in load(folder / "last.ckpt")[0].net.parameters()])


@pytest.fixture
def _outside_of_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    from temper.training.modules import Classifier

    monkeypatch.setattr(Classifier, "current_epoch", 0)
    monkeypatch.setattr(Classifier, "global_rank", 0)
    monkeypatch.setattr(Classifier, "global_step", 2)
    monkeypatch.setattr(Classifier, "total_steps", 3)


def chosen(group: str, option: str) -> list[str]:
    return [f"{group}=[{option}]" if group == "penalty" else f"{group}={option}", *NEEDS.get(option, [])]


@pytest.fixture
def _images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder of images and name it in the environment."""
    for part, name in product(("train", "test"), ("ant", "bee")):
        (tmp_path / part / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.full((8, 8, 3), number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    monkeypatch.setenv("IMAGES", str(tmp_path))


@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize(("group", "option"), list(options(*GROUPS)))
def test_every_option_composes_and_builds(group: str, option: str) -> None:
    config = composed(*chosen(group, option))
    if option not in DOWNLOADED:
        validate(config)
    build_module(config)


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize(
    ("group", "option"),
    [o for o in options("attack", "penalty", "model", "optimizer", "schedule") if o[1] not in ("none", *BY_EPOCH)],
)
def test_every_option_changes_the_trajectory(group: str, option: str) -> None:
    """An option that silently trains something else is the commonest bug of this field."""
    defaults = {"model": "cnn", "optimizer": "sgd", "schedule": "triangle"}
    if defaults.get(group) == option:
        pytest.skip("the default, which the others are compared with")
    base, other = trajectory(*WITHOUT.get(option, [])), trajectory(*chosen(group, option))
    assert torch.isfinite(other).all()
    assert base.shape != other.shape or not torch.equal(base, other)


@pytest.mark.parametrize("option", BY_EPOCH)
def test_every_option_that_follows_the_training_changes_what_is_evaluated(option: str, tmp_path: Path) -> None:
    # Ten steps an epoch; early stopping needs an epoch that is worse than one before.
    more = ["optimizer.lr=1"] if option == "early_stopping" else []
    base = evaluated(tmp_path, *WITHOUT.get(option, []), *more, epochs=4)
    other = evaluated(tmp_path, *chosen("penalty", option), *more, epochs=4)
    assert torch.isfinite(other).all() and not torch.equal(base, other)


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_attacks_differ_from_each_other() -> None:
    found = [trajectory(f"attack={option}") for _, option in options("attack")]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert not torch.equal(one, other)


def neutral(option: str) -> list[str]:
    """Return the overrides under which an option declares to change nothing."""
    nodes = composed(f"penalty=[{option}]").penalties
    declared = {name: cast(type[Penalty], get_class(node.target)).neutral for name, node in nodes.items()}
    return [f"penalty.{name}.{setting}" for name, settings in declared.items() for setting in settings]


def test_which_penalties_have_a_neutral_value_is_declared() -> None:
    without = [option for _, option in options("penalty") if not neutral(option)]
    assert without == ["batch_norm", "early_stopping", "group_norm", "none", "spectral_norm"]


@pytest.mark.usefixtures("_outside_of_a_trainer")
@pytest.mark.parametrize("option", [o for _, o in options("penalty") if o not in BY_EPOCH and neutral(o)])
@pytest.mark.parametrize("attack", ["none", "pgd"])
def test_neutral_values_give_none_to_the_bit(attack: str, option: str) -> None:
    base = trajectory(f"attack={attack}", *WITHOUT.get(option, []))
    assert torch.equal(base, trajectory(f"attack={attack}", *chosen("penalty", option), *neutral(option)))


@pytest.mark.parametrize("option", [o for o in BY_EPOCH if neutral(o)])
def test_neutral_values_of_what_follows_the_training_give_none_to_the_bit(option: str, tmp_path: Path) -> None:
    base = evaluated(tmp_path, "attack=pgd", *WITHOUT.get(option, []))
    assert torch.equal(base, evaluated(tmp_path, "attack=pgd", *chosen("penalty", option), *neutral(option)))


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_strength_zero_is_neutral_for_all_that_it_scales() -> None:
    several = "penalty=[l1,dropout,label_smoothing,mixup,awp,jacobian,elastic_net,noise]"
    assert torch.equal(trajectory("attack=pgd"), trajectory("attack=pgd", several, "strength=0"))


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_strength_scales_every_penalty() -> None:
    for scaled, written in [
        (("penalty=l2", "strength=2"), ("penalty=l2", "penalty.l2.weight=1e-2")),
        (("penalty=dropout", "strength=2"), ("penalty=dropout", "penalty.dropout.p=0.4")),
        (("penalty=weight_decay", "strength=0.1"), ("penalty=weight_decay", "penalty.weight_decay.decay=5e-4")),
    ]:
        torch.testing.assert_close(trajectory(*scaled), trajectory(*written))


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_penalties_in_another_order_are_the_same_run() -> None:
    assert torch.equal(trajectory("penalty=[l2,dropout,l1]"), trajectory("penalty=[l1,l2,dropout]"))


def test_cells_of_a_seed_share_weights_and_seeds_do_not() -> None:
    def weights(*overrides: str) -> Tensor:
        return torch.cat([p.detach().flatten() for p in build_module(composed(*overrides)).net.parameters()])

    assert torch.equal(weights(), weights("attack=trades", "penalty=[l2,dropout]"))
    assert not torch.equal(weights(), weights("seed=1"))


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_cells_of_a_seed_share_random_starts() -> None:
    """Dropout and label smoothing draw or change much before an attack starts, and shift nothing."""
    from temper.attacks import Linf

    starts: dict[str, list[Tensor]] = {}
    uniform = Linf.uniform
    for penalty in ("[none]", "[dropout,label_smoothing]"):
        seen = starts.setdefault(penalty, [])

        def spy(self: Linf, x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(uniform(self, x))
            return seen[-1]

        Linf.uniform = spy  # type: ignore[method-assign]
        try:
            trajectory.__wrapped__("attack=pgd", f"penalty={penalty}")
        finally:
            Linf.uniform = uniform  # type: ignore[method-assign]
    assert all(map(torch.equal, *starts.values())) and len(starts["[none]"]) == 3


@pytest.mark.usefixtures("_outside_of_a_trainer")
def test_seed_zero_is_a_seed() -> None:
    assert torch.equal(trajectory("seed=0"), trajectory.__wrapped__("seed=0"))
    assert not torch.equal(trajectory("seed=0"), trajectory("seed=1"))
