"""Tests of the hot path: training steps equal a plain loop and never wait for the device."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from temper.config.composed import CONF
from temper.config.run_config import RunConfig
from temper.data.loading import build_data
from temper.runs.seeding import rekey
from temper.training.classifier import Classifier
from temper.training.modules import build_module
from tests.conftest import QUICK, composed

# 25 epochs of four batches, of which the last is smaller.
SMALL = ("attack.steps=3", "data.train_size=200", "model.width=4", "model.hidden=16", "trainer.max_epochs=25")


def trained(config: RunConfig, *, validated: bool = False) -> Classifier:
    """Return a module trained with Lightning."""
    module = build_module(config)
    trainer: pl.Trainer = config.trainer.build(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=1.0 if validated else 0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, build_data(config))
    return module


def trained_by_plain_loop(config: RunConfig, *, l2: float = 0.0) -> Classifier:
    """Return a module trained by a plain float32 loop, with PGD as in the papers' code: weights always require gradients."""
    module = build_module(config)
    net, steps = module.net.train(), config.attack.steps
    eps = 2 / 16  # conf/data/digits.yaml
    loader = build_data(config).loader("train", batch_size=config.data.batch_size, seed=config.seed)
    optimizer = module.optimizer(net.parameters())
    total = config.trainer.max_epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: module.schedule(min((step + 0.5) / total, 1.0)))
    steps_done = 0
    for epoch in range(config.trainer.max_epochs):
        loader.set_epoch(epoch)
        for number, batch in enumerate(loader):
            rekey(config.seed, "attack", 0, epoch, number)
            lowest, highest = (batch.x - eps).clamp(min=0), (batch.x + eps).clamp(max=1)
            x_adv = batch.x
            if config.attack.start == "uniform":
                x_adv = (x_adv + torch.empty_like(x_adv).uniform_(-eps, eps)).clamp(lowest, highest)
            net.eval()
            for _ in range(steps):
                x_adv = x_adv.detach().requires_grad_(True)
                (gradient,) = torch.autograd.grad(F.cross_entropy(net(x_adv), batch.y, reduction="sum"), x_adv)
                x_adv = (x_adv + 2.5 * eps / steps * gradient.sign()).clamp(lowest, highest)
            net.train()
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x_adv.detach()), batch.y)
            if l2:
                loss = loss + l2 * sum(p.square().sum() for p in net.parameters() if p.ndim > 1) / 2
            loss.backward()
            optimizer.step()
            schedule.step()
            steps_done += 1
    assert steps_done == 100
    return module


def weights(module: Classifier) -> Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in module.net.parameters()])


def test_100_steps_are_bit_identical_to_a_plain_loop() -> None:
    """Use digits, whose pixels and eps are multiples of 1/16, so the plain loop has no rounding at the bounds."""
    config = composed("attack=pgd", *SMALL)
    fast, plain = weights(trained(config)), weights(trained_by_plain_loop(config))
    assert torch.equal(fast, plain) and not torch.equal(fast, weights(build_module(config)))


def test_100_combined_steps_equal_a_plain_loop() -> None:
    """Compare up to rounding, since the norm of all weights is summed in another order."""
    config = composed("attack=pgd", "penalty=l2", "penalty.l2.weight=5e-3", *SMALL)
    torch.testing.assert_close(weights(trained(config)), weights(trained_by_plain_loop(config, l2=5e-3)), rtol=1e-4, atol=1e-5)


GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@pytest.mark.parametrize(
    ("how", "tolerance"),
    [
        ("model.channels_last=true", 0.01),
        ("trainer.precision=bf16-mixed", 0.25),
        pytest.param("model.compile=true", 0.01, marks=pytest.mark.slow),
        pytest.param("trainer=gpu", 0.1, marks=GPU),
        pytest.param("trainer=gpu trainer.precision=bf16-mixed", 0.25, marks=GPU),
        pytest.param("trainer=gpu model.compile=true", 0.1, marks=GPU),
        pytest.param("trainer=gpu model.compile=cuda_graphs", 0.1, marks=GPU),
    ],
)
def test_100_steps_at_other_precisions_end_nearby(how: str, tolerance: float) -> None:
    """Compare with float32 on the CPU: steps differ where signs of small gradients flip.

    The tolerance is a fraction of the distance from the initial weights. Nothing is drawn at random, since a GPU draws
    different numbers.
    """
    settings = ("attack=pgd", "attack.start=zero", *SMALL)
    start, plain = weights(build_module(composed(*settings))), weights(trained_by_plain_loop(composed(*settings)))
    distance = (weights(trained(composed(*how.split(), *settings))) - plain).norm()
    assert distance < tolerance * (plain - start).norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("attack", ["none", "trades", "pgd", "free"])
@pytest.mark.parametrize("model", ["cnn", "preact_resnet18"])
def test_cuda_graphs_survive_epochs_and_validations(attack: str, model: str) -> None:
    size = ["model.width=4"] if model == "preact_resnet18" else []
    settings = (f"attack={attack}", f"model={model}", *size, "data.train_size=200", "trainer.max_epochs=3", "trainer=gpu")
    graphs, plain = (
        trained(composed(*settings, f"model.compile={how}"), validated=True).trainer.callback_metrics["val/loss"]
        for how in ("cuda_graphs", "false")
    )
    torch.testing.assert_close(graphs, plain, rtol=0.05, atol=0.05)


class SyncRecorder(TorchDispatchMode):
    """Record blocking copies to the device `meta`, which would wait for a real one; reading a value from it raises an error."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source, non_blocking = (
                args[-1] if len(args) < 3 else args[1],
                (kwargs or {}).get("non_blocking") or args[2:] == (True,),
            )
            if out.is_meta and not source.is_meta and source.ndim and not non_blocking:
                self.waits.append(f"{func} of {list(source.shape)}")
        return out


def one_step(config: RunConfig, device: str, monkeypatch: pytest.MonkeyPatch) -> SyncRecorder:
    """Run one training step on a device and return its recorded synchronizations."""
    module, data = build_module(config), build_data(config)
    trainer = type(
        "Trainer", (), {"max_epochs": 2, "limit_train_batches": None, "accumulate_grad_batches": 1, "datamodule": data}
    )
    for name, value in {"trainer": trainer, "global_step": 3, "current_epoch": 1, "global_rank": 0}.items():
        monkeypatch.setattr(Classifier, name, value)
    batch = next(iter(data.loader("train", batch_size=16))).to(device)
    module.to(device)
    optimizer = module.optimizer(module.parameters())
    with SyncRecorder() as recorder:
        loss = module.objective(batch, 0)
        penalty = module.penalties.weighted_sum(loss.terms)
        (loss.risk if penalty is None else loss.risk + penalty).backward()
        module.on_after_backward()
        module.penalties.before_step(module.net, 0.1)
        optimizer.step()
        module.penalties.after_step(module.net)
    return recorder


def options(group: str) -> list[str]:
    return sorted(path.stem for path in Path(CONF, group).glob("*.yaml"))


# The first two read their success rates every fifty batches; the third reads gradients at some steps.
READS = {"evolving", "pgd_warmup", "meta"}
UNSUPPORTED = {"orthogonal", "spectral"}  # torch.autocast does not support the device meta


@pytest.mark.parametrize("attack", [name for name in options("attack") if name not in READS])
def test_attacks_never_wait_for_the_device(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one_step(composed(f"attack={attack}", *QUICK), "meta", monkeypatch).waits == []


@pytest.mark.parametrize("penalty", [name for name in options("penalty") if name not in READS | UNSUPPORTED])
def test_penalties_never_wait_for_the_device(penalty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steered = f"[l2,{penalty}]" if penalty in ("controlled", "dynamic") else penalty
    model = ["model=preact_resnet18", "model.width=4"] if penalty == "stochastic_depth" else QUICK
    assert one_step(composed("attack=pgd", f"penalty={steered}", *model), "meta", monkeypatch).waits == []


def test_recorder_detects_synchronization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detect a blocking copy and a value that is read."""
    from temper.attacks import PGD

    def blocking(attack: PGD, net: Any, batch: Any) -> Tensor:
        return batch.x + torch.zeros(batch.x.shape).to(batch.x.device)

    def reading(attack: PGD, net: Any, batch: Any) -> Tensor:
        return batch.x if batch.x.max() > 0 else -batch.x

    monkeypatch.setattr(PGD, "perturb", blocking)
    assert len(one_step(composed("attack=pgd", *QUICK), "meta", monkeypatch).waits) == 1
    monkeypatch.setattr(PGD, "perturb", reading)
    with pytest.raises(RuntimeError, match="meta"):
        one_step(composed("attack=pgd", *QUICK), "meta", monkeypatch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("penalty", ["none", "[l2,dropout]", "[crop_flip,cutmix]", "awp"])
def test_steps_never_wait_for_the_gpu(penalty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("attack=pgd", f"penalty={penalty}", *QUICK)
    one_step(config, "cuda", monkeypatch)  # first, since lazy loading synchronizes
    objective = Classifier.objective

    def watched(module: Classifier, *arguments: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        return objective(module, *arguments)

    monkeypatch.setattr(Classifier, "objective", watched)
    try:
        one_step(config, "cuda", monkeypatch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
