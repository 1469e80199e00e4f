"""Every option in conf/ composes, builds, trains, and changes the trajectory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from temper.config import CONF
from temper.modules import build_module
from temper.randomness import rekey
from temper.validate import build_data, validate
from tests.conftest import composed

GROUPS = ("attack", "penalty", "data", "model", "optimizer", "schedule", "evaluation", "debug")
SHARED = ("suite", "torchvision")  # what other options build on, not options themselves
NEEDS = {"external": ["model.factory=tests.conftest:small_net"]}  # what an option cannot know by itself
DOWNLOADED = ("mnist", "fashion_mnist", "cifar10")


def options(*groups: str) -> Iterator[tuple[str, str]]:
    for group in groups:
        for path in sorted((Path(CONF) / group).glob("*.yaml")):
            if path.stem not in SHARED:
                yield group, path.stem


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
        schedule.step()
    rekey(0, "end")
    return torch.cat([parameter.detach().flatten() for parameter in module.net.parameters()])


@pytest.fixture(autouse=True)
def _outside_of_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    from temper.modules import Classifier

    monkeypatch.setattr(Classifier, "current_epoch", 0)
    monkeypatch.setattr(Classifier, "global_rank", 0)
    monkeypatch.setattr(Classifier, "global_step", 2)
    monkeypatch.setattr(Classifier, "total_steps", 3)


@pytest.mark.parametrize(("group", "option"), list(options(*GROUPS)))
def test_every_option_composes_and_builds(group: str, option: str) -> None:
    value = f"[{option}]" if group == "penalty" else option
    config = composed(f"{group}={value}", *NEEDS.get(option, []))
    if option not in DOWNLOADED:
        validate(config)
    build_module(config)


@pytest.mark.parametrize(
    ("group", "option"), [o for o in options("attack", "penalty", "model", "optimizer", "schedule") if o[1] != "none"]
)
def test_every_option_changes_the_trajectory(group: str, option: str) -> None:
    """An option that silently trains something else is the commonest bug of this field."""
    defaults = {"model": "cnn", "optimizer": "sgd", "schedule": "triangle"}
    if defaults.get(group) == option:
        pytest.skip("the default, which the others are compared with")
    value = f"[{option}]" if group == "penalty" else option
    base, other = trajectory(), trajectory(f"{group}={value}", *NEEDS.get(option, []))
    assert torch.isfinite(other).all()
    assert base.shape != other.shape or not torch.equal(base, other)


def test_attacks_differ_from_each_other() -> None:
    found = [trajectory(f"attack={option}") for _, option in options("attack")]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "neutral",
    [
        ("penalty=l1", "penalty.l1.weight=0"),
        ("penalty=l2", "penalty.l2.weight=0"),
        ("penalty=elastic_net", "strength=0"),
        ("penalty=weight_decay", "penalty.weight_decay.decay=0"),
        ("penalty=dropout", "penalty.dropout.p=0"),
        ("penalty=label_smoothing", "penalty.label_smoothing.smoothing=0"),
        ("penalty=[l1,dropout,label_smoothing]", "strength=0"),
    ],
)
@pytest.mark.parametrize("attack", ["none", "pgd"])
def test_neutral_values_give_none_to_the_bit(attack: str, neutral: tuple[str, ...]) -> None:
    assert torch.equal(trajectory(f"attack={attack}"), trajectory(f"attack={attack}", *neutral))


def test_strength_scales_every_penalty() -> None:
    for scaled, written in [
        (("penalty=l2", "strength=2"), ("penalty=l2", "penalty.l2.weight=1e-2")),
        (("penalty=dropout", "strength=2"), ("penalty=dropout", "penalty.dropout.p=0.4")),
        (("penalty=weight_decay", "strength=0.1"), ("penalty=weight_decay", "penalty.weight_decay.decay=5e-4")),
    ]:
        torch.testing.assert_close(trajectory(*scaled), trajectory(*written))


def test_penalties_in_another_order_are_the_same_run() -> None:
    assert torch.equal(trajectory("penalty=[l2,dropout,l1]"), trajectory("penalty=[l1,l2,dropout]"))


def test_cells_of_a_seed_share_weights_and_seeds_do_not() -> None:
    def weights(*overrides: str) -> Tensor:
        return torch.cat([p.detach().flatten() for p in build_module(composed(*overrides)).net.parameters()])

    assert torch.equal(weights(), weights("attack=trades", "penalty=[l2,dropout]"))
    assert not torch.equal(weights(), weights("seed=1"))


def test_cells_of_a_seed_share_random_starts() -> None:
    """Dropout and label smoothing draw or change much before an attack starts, and shift nothing."""
    from temper.attacks.threat import Linf

    starts: dict[str, list[Tensor]] = {}
    uniform = Linf.uniform
    for penalty in ("[none]", "[dropout,label_smoothing]"):
        seen = starts.setdefault(penalty, [])

        def spy(self: Linf, x: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(uniform(self, x))
            return seen[-1]

        Linf.uniform = spy  # type: ignore[method-assign]
        try:
            trajectory("attack=pgd", f"penalty={penalty}")
        finally:
            Linf.uniform = uniform  # type: ignore[method-assign]
    assert all(map(torch.equal, *starts.values())) and len(starts["[none]"]) == 3


def test_seed_zero_is_a_seed() -> None:
    assert torch.equal(trajectory("seed=0"), trajectory("seed=0"))
    assert not torch.equal(trajectory("seed=0"), trajectory("seed=1"))
