"""Tests of `trainer.precision=bf16-mixed`: training and attacks use bfloat16, losses and evaluation use float32."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode

from temper.cli import run
from temper.data.loading import build_data
from temper.evaluation import suite
from temper.training.modules import build_module
from tests.conftest import QUICK, composed

Temper = Callable[..., tuple[int, str]]
Dtypes = dict[str, set[torch.dtype]]
KINDS = [
    ("attack=pgd",),
    ("attack=trades",),
    ("attack=mart",),
    ("attack=pgd", "attack.loss=dlr", "penalty=[l2,logit_squeezing]"),
]
# Functions that losses apply to logits.
LOGIT_FUNCTIONS = (
    F.cross_entropy,
    Tensor.softmax,
    Tensor.log_softmax,
    Tensor.topk,
    Tensor.gather,
    Tensor.scatter,
    Tensor.square,
)


class Stage:
    """Current part of a run."""

    def __init__(self) -> None:
        self.name = "outside"

    def during(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, wrapped to set the stage while it runs."""

        def wrapped(*arguments: Any, **named: Any) -> Any:
            before, self.name = self.name, name
            try:
                return function(*arguments, **named)
            finally:
                self.name = before

        return wrapped


@contextmanager
def layer_dtypes(stage: Stage) -> Iterator[Dtypes]:
    """Record the output dtypes of all linear and convolutional layers, by stage."""
    seen: Dtypes = defaultdict(set)

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            seen[stage.name].add(output.dtype)

    handle = register_module_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


class LossDtypes(TorchFunctionMode):
    """Record the dtypes of the logits that each function of a loss receives, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Dtypes = defaultdict(set)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LOGIT_FUNCTIONS and args[0].ndim == 2 and args[0].shape[1] == 10:
            self.seen[func.__name__].add(args[0].dtype)
        return func(*args, **(kwargs or {}))


def fit(stage: Stage, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[Dtypes, Dtypes]:
    """Train on two batches and validate; return the dtypes of layers by stage, and of logits in losses by function."""
    config = composed(*QUICK, "trainer.max_epochs=1", "trainer.limit_train_batches=2", *overrides)
    module, data = build_module(config), build_data(config)
    monkeypatch.setattr(module.attack, "perturb", stage.during("attack", module.attack.perturb))
    monkeypatch.setattr(module, "validation_step", stage.during("validation", module.validation_step))
    trainer: pl.Trainer = config.trainer.build(
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False
    )
    with layer_dtypes(stage) as outputs, LossDtypes() as losses:
        stage.during("training", trainer.fit)(module, data)
    return outputs, losses.seen


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_training_and_attack_use_bfloat16_and_losses_float32(kind: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, losses = fit(Stage(), monkeypatch, "trainer.precision=bf16-mixed", *kind)
    assert outputs == {stage: {torch.bfloat16} for stage in ("training", "attack", "validation")}
    assert losses and all(dtypes == {torch.float32} for dtypes in losses.values()), losses


def test_default_precision_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, _ = fit(Stage(), monkeypatch, "attack=pgd")
    assert outputs == {stage: {torch.float32} for stage in ("training", "attack", "validation")}


def test_evaluation_uses_float32(temper: Temper, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    monkeypatch.setattr(suite, "attack_all", stage.during("evaluation", suite.attack_all))
    monkeypatch.setattr(run, "train", stage.during("training", run.train))
    with layer_dtypes(stage) as outputs:
        status, output = temper("train", *QUICK, "attack=pgd", "trainer.precision=bf16-mixed")
    assert status == 0, output
    assert outputs["training"] == {torch.bfloat16} and outputs["evaluation"] == {torch.float32}
