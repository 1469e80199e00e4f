"""`model.compile=true`: the same training by other kernels, or an error that names both keys."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from temper import classifier
from temper.cell import Cell
from temper.config import ConfigError
from temper.models import compile_parts
from temper.modules import load
from temper.records import RunRecord
from temper.validate import validate
from tests.conftest import QUICK, composed

Temper = Callable[..., tuple[int, str]]
COMPILED = (*QUICK, "model.compile=true")


def record_of(study: str) -> tuple[Path, RunRecord]:
    (folder,) = Path("outputs", study).glob("*/seed-*")
    return folder, RunRecord.read(folder)


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def compare(temper: Temper, *settings: str, rtol: float, atol: float) -> None:
    """Train with and without; the checkpoints have the same keys, load either way, and hold the same weights."""
    for study in ("plain", "compiled"):
        status, output = temper("train", *QUICK, f"study={study}", f"model.compile={study == 'compiled'}", *settings)
        assert status == 0, output
    (one, plain), (other, compiled) = record_of("plain"), record_of("compiled")
    assert plain.digest != compiled.digest, "the last bits may differ: it is part of the cell"
    assert plain.cost["gradient_evaluations"] == compiled.cost["gradient_evaluations"]
    before, after = state(one), state(other)
    assert before.keys() == after.keys()
    for name, value in before.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(after[name], value, rtol=rtol, atol=atol, msg=name)
    module, _ = load(other / "checkpoints/last.ckpt")
    module.load_state_dict(before)
    load(one / "checkpoints/last.ckpt")[0].load_state_dict(after)
    assert plain.curves["val/clean"] == pytest.approx(compiled.curves["val/clean"], abs=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        ("attack=trades", "penalty=[l2,dropout,batch_norm,awp]", "penalty.l2.relative=0.1"),
        ("attack=pgd", "attack.mode=train", "penalty=[batch_norm,logit_squeezing,sam]"),
        ("penalty=[spectral_norm,ema]", "data.batch_size=60"),  # the last batch is a short one
    ],
    ids=" ".join,
)
def test_traced_training_is_the_same(settings: tuple[str, ...], temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "compile_parts", lambda net: compile_parts(net, backend="aot_eager"))
    compare(temper, *settings, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("attack=pgd", "penalty=[l2,batch_norm]")], ids=["standard", "combined"])
def test_compiled_training_is_the_same_to_rounding(settings: tuple[str, ...], temper: Temper) -> None:
    compare(temper, *settings, rtol=1e-2, atol=1e-3)


def test_sizes_of_batches_do_not_compile_again_and_again() -> None:
    from torch._dynamo.utils import counters

    from tests.conftest import small_net

    net = small_net()
    keys = list(net.state_dict())
    compile_parts(net, backend="aot_eager")
    counters.clear()
    for size in (64, 50, 33, 17, 9, 2):
        net(torch.rand(size, 1, 8, 8)).sum().backward()
    assert counters["stats"]["unique_graphs"] == 2 and list(net.state_dict()) == keys


@pytest.mark.parametrize("part", ["jacobian", "input_gradient", "curvature", "local_linearity", "rotation", "[l2,jacobian]"])
def test_penalties_that_cannot_be_compiled_are_refused(part: str) -> None:
    name = part.strip("[]").rpartition(",")[2]
    with pytest.raises(ConfigError, match=rf"model\.compile=true does not go with penalty\.{name}"):
        validate(composed(*COMPILED, f"penalty={part}"))


def test_attacks_that_cannot_be_compiled_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.compile=true does not go with attack: .*double backward"):
        validate(composed(*COMPILED, "attack=grad_align"))
    with pytest.raises(ConfigError, match=r"model\.compile=true does not go with trainer\.sync_batchnorm"):
        validate(composed(*COMPILED, "trainer=ddp", "trainer.accelerator=cpu", "trainer.sync_batchnorm=true"))
    with pytest.raises(ConfigError, match=r"model\.compile"):
        validate(composed(*QUICK, "model.compile=maybe"))


def test_the_default_leaves_the_identity_as_it_was() -> None:
    config = composed(*QUICK)
    digest = Cell.of(config).digest
    config.model = {name: value for name, value in config.model.items() if name != "compile"}
    assert Cell.of(config).digest == digest != Cell.of(composed(*COMPILED)).digest
