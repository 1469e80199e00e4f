"""`model.compile=true`: training equals eager training, or gives an error that names both keys."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from temper.attacks import PGD, Linf
from temper.attacks.gradient_step import take_step
from temper.attacks.network_state import Mode
from temper.config.cell import Cell
from temper.config.errors import ConfigError
from temper.data import Batch
from temper.models import Compiler
from temper.penalties import BatchNorm
from temper.runs.record import RunRecord
from temper.runs.seeding import rekey
from temper.sweeps.preflight import validate
from temper.training.classifier import Classifier
from temper.training.modules import build_module, load
from tests.conftest import QUICK, QUICK_TABLE, QUICK_TEXTS, composed, small_net

Temper = Callable[..., tuple[int, str]]
COMPILED = (*QUICK, "model.compile=true")


def record_of(study: str) -> tuple[Path, RunRecord]:
    (folder,) = Path("outputs", study).glob("*/seed-*")
    return folder, RunRecord.read(folder)


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def compare(temper: Temper, *settings: str, rtol: float, atol: float) -> None:
    """Train with and without compilation; the checkpoints must be interchangeable and have equal weights."""
    for study in ("plain", "compiled"):
        status, output = temper("train", f"study={study}", *settings, f"model.compile={study == 'compiled'}")
        assert status == 0, output
    (plain_folder, plain), (compiled_folder, compiled) = record_of("plain"), record_of("compiled")
    assert plain.digest != compiled.digest, "rounding may differ, so compilation is part of the cell"
    assert plain.cost["gradient_evaluations"] == compiled.cost["gradient_evaluations"]
    plain_state, compiled_state = state(plain_folder), state(compiled_folder)
    assert plain_state.keys() == compiled_state.keys()
    for name, value in plain_state.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(compiled_state[name], value, rtol=rtol, atol=atol, msg=name)
    load(compiled_folder / "checkpoints/last.ckpt")[0].load_state_dict(plain_state)
    load(plain_folder / "checkpoints/last.ckpt")[0].load_state_dict(compiled_state)
    assert plain.curves["val/clean"] == pytest.approx(compiled.curves["val/clean"], abs=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        (*QUICK, "attack=trades", "penalty=[l2,dropout,batch_norm,awp]", "penalty.l2.relative=0.1"),
        (*QUICK, "attack=pgd", "attack.mode=train", "penalty=[batch_norm,logit_squeezing,sam]"),
        (*QUICK, "penalty=[spectral_norm,ema]", "data.batch_size=60"),  # with a short last batch
        (*QUICK_TABLE, "attack=pgd", "penalty=dropout"),
        (*QUICK_TEXTS, "attack=freelb", "penalty=l2"),
    ],
    ids=" ".join,
)
def test_traced_training_equals_eager_training(
    settings: tuple[str, ...], temper: Temper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compiler, "of", lambda setting: Compiler(backend="aot_eager") if setting else None)
    compare(temper, *settings, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [QUICK, (*QUICK, "attack=pgd", "penalty=[l2,batch_norm]")], ids=["standard", "combined"])
def test_compiled_training_equals_eager_training_up_to_rounding(settings: tuple[str, ...], temper: Temper) -> None:
    compare(temper, *settings, rtol=1e-2, atol=1e-3)


def test_each_batch_size_has_its_own_kernels() -> None:
    """An earlier batch size reuses its kernels without compilation."""
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        number = len(calls)
        calls.append(0)

        def run(*arguments: object) -> object:
            calls[number] += 1
            return graph.forward(*arguments)

        return run

    net = small_net()
    keys = list(net.state_dict())
    Compiler(backend=backend).compile_network(net)
    for size in (64, 20, 64, 50, 64, 20):
        net(torch.rand(size, 1, 8, 8)).sum().backward()
    assert calls == [3, 2, 1] and list(net.state_dict()) == keys


def test_every_part_of_an_attack_uses_the_compiled_step() -> None:
    attack = build_module(composed(*QUICK, "attack=evolving")).attack
    attack.set_step(compiled := Compiler(backend="aot_eager").compile_function(take_step))
    steps = [part.step for part in attack.modules() if isinstance(part, PGD)]
    assert len(steps) == 3 and all(step is compiled for step in steps)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_compiled_attack_does_not_change_the_network(mode: Mode, batch: Batch) -> None:
    net = BatchNorm().prepare(small_net()).train()
    cast(nn.Sequential, net.layers)[1].eval()  # a frozen layer
    compiler = Compiler(backend="aot_eager")
    compiler.compile_network(net)
    attack = PGD(threat=Linf(eps=0.1), steps=3, mode=mode)
    plain = copy.deepcopy(attack)
    attack.set_step(compiler.compile_function(take_step))
    before = [module.training for module in net.modules()], copy.deepcopy(net.state_dict())
    points = []
    for adversary in (attack, plain):
        rekey(0, "start")
        points.append(adversary.perturb(net, batch))
        assert [module.training for module in net.modules()] == before[0]
        assert all(torch.equal(value, before[1][name]) for name, value in net.state_dict().items())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert (points[0] - points[1]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "settled"),
    [
        ((), 0),
        (("attack.mode=train", "penalty=batch_norm"), 0),
        (("attack=evolving",), 2),  # attacks are drawn at random, so when each first gets a short batch is random too
    ],
)
def test_epochs_after_the_first_compile_nothing(
    settings: tuple[str, ...], settled: int, temper: Temper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Covers train and eval mode, a short last batch, growing radii and steps, and validation."""
    compiled = []

    original = Classifier.on_validation_epoch_end

    def counting(classifier: Classifier) -> None:
        compiled.append(counters["stats"]["unique_graphs"])
        original(classifier)

    monkeypatch.setattr(Compiler, "of", lambda setting: Compiler(backend="aot_eager") if setting else None)
    monkeypatch.setattr(Classifier, "on_validation_epoch_end", counting)
    counters.clear()
    settings = ("attack=pgd", "data.batch_size=60", "trainer.max_epochs=4", "evaluation.checkpoints=[]", *settings)
    assert temper("train", *COMPILED, *settings)[0] == 0
    assert len(compiled) == 4 and len(set(compiled[settled:])) == 1, compiled


@pytest.mark.parametrize("part", ["jacobian", "input_gradient", "curvature", "local_linearity", "rotation", "[l2,jacobian]"])
def test_penalties_that_cannot_be_compiled_are_rejected(part: str) -> None:
    name = part.strip("[]").rpartition(",")[2]
    with pytest.raises(ConfigError, match=rf"model\.compile=true: does not support penalty\.{name}"):
        validate(composed(*COMPILED, f"penalty={part}"))


def test_settings_that_cannot_be_compiled_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"model\.compile=true: does not support attack: .*double backward"):
        validate(composed(*COMPILED, "attack=grad_align"))
    with pytest.raises(ConfigError, match=r"model\.compile=true: does not support trainer\.sync_batchnorm=true"):
        validate(composed(*COMPILED, "trainer=ddp", "trainer.accelerator=cpu", "trainer.sync_batchnorm=true"))
    with pytest.raises(ConfigError, match=r"attack\.stop_after=0: is not supported by model\.compile"):
        validate(composed(*COMPILED, "attack=pgd", "attack.stop_after=0"))
    with pytest.raises(ConfigError, match=r"validation\.stop_after=0: is not supported by model\.compile"):
        validate(composed(*COMPILED, "+validation.stop_after=0"))
    with pytest.raises(ConfigError, match=r"model\.compile=true: does not support attack\.ramp_eps with norm l2"):
        validate(composed(*COMPILED, "attack=evolving", "attack.attacks.pgd.threat=${data.threats.l2}"))
    with pytest.raises(ConfigError, match=r"model\.compile"):
        validate(composed(*QUICK, "model.compile=maybe"))


def test_the_default_is_not_part_of_the_identity() -> None:
    digest = Cell.of(composed(*QUICK)).digest
    assert Cell.of(composed(*QUICK, "~model.compile")).digest == digest != Cell.of(composed(*COMPILED)).digest
