"""Helpers for the tests of penalties: networks, soft targets, every term, interrupted fits."""

import contextlib
import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from torch import Tensor

from temper.attacks import Linf
from temper.config.composed import CONF
from temper.config.run_config import RunConfig, parse
from temper.data import Batch
from temper.data.loading import build_data
from temper.models import CNN, MLP
from temper.penalties import (
    L1,
    L2,
    BatchNorm,
    Confidence,
    Curvature,
    InputGradient,
    Jacobian,
    LocalLinearity,
    LogitSqueezing,
    Orthogonal,
    Penalty,
    Rotation,
    SelfDistillation,
    Spectral,
)
from temper.training.checkpoints import checkpoint_callbacks
from temper.training.classifier import Classifier
from temper.training.modules import build_module
from tests import conftest
from tests.conftest import small_net

# Every penalty that adds a term.
TERMS: dict[str, Callable[[], Penalty]] = {
    "confidence": Confidence,
    "curvature": lambda: Curvature(h=0.5),
    "input_gradient": InputGradient,
    "jacobian": Jacobian,
    "l1": L1,
    "l2": L2,
    "local_linearity": lambda: LocalLinearity(threat=Linf(eps=0.1)),
    "logit_squeezing": LogitSqueezing,
    "orthogonal": Orthogonal,
    "rotation": Rotation,
    "self_distillation": SelfDistillation,
    "spectral": Spectral,
}
TINY = ("model.width=4", "model.hidden=16", "data.train_size=200", "data.val_fraction=0.1", "validation.steps=1")


@functools.cache
def _base(*overrides: str) -> DictConfig:
    return conftest.raw_config(*overrides)


def option(group: str, name: object) -> DictConfig:
    return cast(DictConfig, OmegaConf.load(f"{CONF}/{group}/{name}.yaml"))


def composed(*overrides: str) -> RunConfig:
    """Return the config of a command line. Hydra composes it once; penalty, attack and values are set afterwards for speed."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    quick = [override for override in parsed if override.key_or_group == "penalty" or "." in override.key_or_group]
    # Hydra composes options that have defaults.
    quick += [each for each in parsed if each.key_or_group == "attack" and "defaults" not in option("attack", each.value())]
    quick.sort(key=lambda each: "." in each.key_or_group)
    config = copy.deepcopy(_base(*(override.input_line or "" for override in parsed if override not in quick)))
    OmegaConf.set_struct(config, False)
    for override in quick:
        key, value = override.key_or_group, override.value()
        if key == "penalty":
            names = value if isinstance(value, list) else [value]
            config.penalty = OmegaConf.merge({}, *(option("penalty", name) for name in names))
        elif key == "attack":
            config.attack = option("attack", value)
        else:
            assert override.is_add() or OmegaConf.select(config, key.rpartition(".")[0]) is not None, f"no {key}"
            OmegaConf.update(config, key, value)
    return parse(config)


def mlp(seed: int = 0, hidden: tuple[int, ...] = (5,)) -> MLP:
    torch.manual_seed(seed)
    return MLP(shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.4], hidden=hidden)


def normed_net(seed: int = 0) -> CNN:
    """Return a network with batch norm whose scales and shifts are not 1 and 0."""
    net = BatchNorm().prepare(small_net(seed))
    assert isinstance(net, CNN)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return net


def images(count: int = 8, shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, seed: int = 0) -> Batch:
    """Return random images with distinct pixel values, and random labels."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(count, *shape, generator=draw).clamp(0.01, 0.99)
    return Batch.of(x, torch.randint(classes, (count,), generator=draw))


def softened(batch: Batch, classes: int = 10, seed: int = 0) -> Batch:
    """Return the same examples with random probabilities as targets."""
    draw = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(batch), classes, generator=draw)
    return replace(batch, target=0.7 * F.one_hot(batch.y, classes) + 0.3 * noise / noise.sum(1, keepdim=True))


class Interruption(Exception):
    """Interruption of a run."""


class Interrupt(Callback):
    """Callback that stops training when the third epoch begins, with two epochs in last.ckpt."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 2:
            raise Interruption


def fit(
    folder: Path, *overrides: str, epochs: int = 4, more: tuple[Callback, ...] = (), resume: bool = False
) -> tuple[Classifier, pl.Trainer]:
    """Train for a few epochs in Lightning's trainer, with the checkpoints and callbacks of a real run."""
    config = composed(*overrides, *TINY, f"trainer.max_epochs={epochs}")
    module = build_module(config)
    callbacks = [*module.penalties.callbacks(), *more, *checkpoint_callbacks(folder, module.monitor)]
    trainer: pl.Trainer = config.trainer.build(
        callbacks=callbacks,
        logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(folder),
    )  # fmt: skip
    with contextlib.suppress(Interruption):
        trainer.fit(module, build_data(config), ckpt_path=folder / "last.ckpt" if resume else None)
    return module, trainer


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"{name}.ckpt", map_location="cpu", weights_only=True)
    return loaded


def flat(module: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
