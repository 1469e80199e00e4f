"""The hot path: a training step gives what a plain loop gives, asks the host for nothing, and leaves no trace."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from temper.config.composed import CONF
from temper.config.instantiate import build
from temper.data.loading import build_data
from temper.runs.seeding import rekey
from temper.training.classifier import Classifier
from temper.training.modules import build_module
from tests.conftest import QUICK, composed

# 25 epochs of four batches, the last of them a short one.
SMALL = ("attack.steps=3", "data.train_size=200", "model.width=4", "model.hidden=16", "trainer.max_epochs=25")


def trained(config: DictConfig, *, validated: bool = False) -> Classifier:
    """All epochs through Lightning."""
    module = build_module(config)
    trainer: pl.Trainer = build(
        config,
        "trainer",
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


def by_hand(config: DictConfig, *, l2: float = 0.0) -> Classifier:
    """The same in a plain float32 loop: PGD as papers' code writes it, with weights that want gradients all the while."""
    module = build_module(config)
    net, steps = module.net.train(), config.attack.steps
    eps = 2 / 16  # conf/data/digits.yaml
    loader = build_data(config).loader("train", batch_size=config.data.batch_size, seed=config.seed)
    optimizer = module.optimizer(net.parameters())
    total = config.trainer.max_epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: module.schedule(min((step + 0.5) / total, 1.0)))
    done = 0
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
            done += 1
    assert done == 100
    return module


def weights(module: Classifier) -> Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in module.net.parameters()])


def test_a_hundred_steps_equal_a_plain_loop_to_the_bit() -> None:
    """Digits and their eps are multiples of 1/16, so that the plain loop's ball is rounded nowhere."""
    config = composed("attack=pgd", *SMALL)
    fast, plain = weights(trained(config)), weights(by_hand(config))
    assert torch.equal(fast, plain) and not torch.equal(fast, weights(build_module(config)))


def test_a_hundred_combined_steps_equal_a_plain_loop() -> None:
    """To rounding: the norm of all weights is summed in another order."""
    config = composed("attack=pgd", "penalty=l2", "penalty.l2.weight=5e-3", *SMALL)
    torch.testing.assert_close(weights(trained(config)), weights(by_hand(config, l2=5e-3)), rtol=1e-4, atol=1e-5)


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
def test_a_hundred_steps_of_another_arithmetic_end_nearby(how: str, tolerance: float) -> None:
    """Where signs of small gradients flip, steps differ; the tolerance is a share of the way that training has gone. Nothing is
    drawn, which a GPU would do differently."""
    settings = ("attack=pgd", "attack.start=zero", *SMALL)
    start, plain = weights(build_module(composed(*settings))), weights(by_hand(composed(*settings)))
    away = (weights(trained(composed(*how.split(), *settings))) - plain).norm()
    assert away < tolerance * (plain - start).norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("attack", ["none", "trades", "pgd", "free"])
@pytest.mark.parametrize("model", ["cnn", "preact_resnet18"])
def test_cuda_graphs_live_through_epochs_and_validations(attack: str, model: str) -> None:
    size = ["model.width=4"] if model == "preact_resnet18" else []
    settings = (f"attack={attack}", f"model={model}", *size, "data.train_size=200", "trainer.max_epochs=3", "trainer=gpu")
    graphs, plain = (
        trained(composed(*settings, f"model.compile={how}"), validated=True).trainer.callback_metrics["val/loss"]
        for how in ("cuda_graphs", "false")
    )
    torch.testing.assert_close(graphs, plain, rtol=0.05, atol=0.05)


class Host(TorchDispatchMode):
    """Notes what would wait for the device, if `meta` were one: copies to it that block; what is read from it is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source, freely = args[-1] if len(args) < 3 else args[1], (kwargs or {}).get("non_blocking") or args[2:] == (True,)
            if out.is_meta and not source.is_meta and source.ndim and not freely:
                self.waits.append(f"{func} of {list(source.shape)}")
        return out


def one_step(config: DictConfig, device: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    """What one training step on a device asks of the host."""
    module, data = build_module(config), build_data(config)
    trainer = type(
        "Trainer", (), {"max_epochs": 2, "limit_train_batches": None, "accumulate_grad_batches": 1, "datamodule": data}
    )
    for name, value in {"trainer": trainer, "global_step": 3, "current_epoch": 1, "global_rank": 0}.items():
        monkeypatch.setattr(Classifier, name, value)
    batch = next(iter(data.loader("train", batch_size=16))).to(device)
    module.to(device)
    optimizer = module.optimizer(module.parameters())
    with Host() as host:
        loss = module.objective(batch, 0)
        penalty = module.penalties.weighted(loss.terms)
        (loss.risk if penalty is None else loss.risk + penalty).backward()
        module.on_after_backward()
        module.penalties.before_step(module.net, 0.1)
        optimizer.step()
        module.penalties.after_step(module.net)
    return host


def options(group: str) -> list[str]:
    return sorted(path.stem for path in Path(CONF, group).glob("*.yaml"))


# The first two read their success rates once in fifty batches; the third has moments at which it looks at gradients.
READS = {"evolving", "pgd_warmup", "meta"}
UNKNOWN = {"orthogonal", "spectral"}  # torch.autocast knows no device meta


@pytest.mark.parametrize("attack", [name for name in options("attack") if name not in READS])
def test_no_attack_waits_for_the_device(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one_step(composed(f"attack={attack}", *QUICK), "meta", monkeypatch).waits == []


@pytest.mark.parametrize("penalty", [name for name in options("penalty") if name not in READS | UNKNOWN])
def test_no_penalty_waits_for_the_device(penalty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steered = f"[l2,{penalty}]" if penalty in ("controlled", "dynamic") else penalty
    model = ["model=preact_resnet18", "model.width=4"] if penalty == "stochastic_depth" else QUICK
    assert one_step(composed("attack=pgd", f"penalty={steered}", *model), "meta", monkeypatch).waits == []


def test_what_waits_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: for a copy that blocks, and for a value that is read."""
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
def test_no_step_on_a_gpu_waits_for_it(penalty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("attack=pgd", f"penalty={penalty}", *QUICK)
    one_step(config, "cuda", monkeypatch)  # what is loaded lazily has been
    objective = Classifier.objective

    def watched(module: Classifier, *arguments: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        return objective(module, *arguments)

    monkeypatch.setattr(Classifier, "objective", watched)
    try:
        one_step(config, "cuda", monkeypatch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
