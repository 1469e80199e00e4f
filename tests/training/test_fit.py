"""Tests of trainer options for all four kinds of training: clipping, accumulation, precision."""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from temper.data.loading import build_data
from temper.runs.record import RunRecord
from temper.training.modules import Classifier, build_module, load
from tests.conftest import QUICK, composed

Temper = Callable[..., tuple[int, str]]

KINDS = [("attack=none",), ("attack=fgsm",), ("penalty=l2",), ("attack=fgsm", "penalty=l2")]
PLAIN = ("optimizer.momentum=0", "optimizer.nesterov=false", "schedule=constant", "trainer.max_epochs=1")


def fit(*overrides: str) -> tuple[Classifier, pl.Trainer, dict[str, torch.Tensor]]:
    """Return a module after one epoch, its trainer, and its weights before."""
    config = composed(*QUICK, *PLAIN, *overrides)
    module, data = build_module(config), build_data(config)
    before = {name: value.detach().clone() for name, value in module.net.named_parameters()}
    trainer: pl.Trainer = config.trainer.build(
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False
    )
    trainer.fit(module, data)
    return module, trainer, before


def update(module: Classifier, before: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([(value.detach() - before[name]).flatten() for name, value in module.net.named_parameters()])


def update_for(*overrides: str) -> torch.Tensor:
    module, _, before = fit(*overrides)
    return update(module, before)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_clipped_gradient_has_the_given_norm(kind: tuple[str, ...]) -> None:
    """Compare updates of plain SGD on all examples, which are lr times the gradient."""
    whole = ("data.batch_size=200", "optimizer.lr=0.5", *kind)
    unclipped = update_for(*whole)
    assert float(unclipped.norm()) > 0.005
    clipped = update_for(*whole, "trainer.gradient_clip_val=0.01")
    torch.testing.assert_close(clipped, unclipped * (0.5 * 0.01 / unclipped.norm()), rtol=1e-3, atol=1e-7)
    by_value = update_for(*whole, "trainer.gradient_clip_val=0.01", "+trainer.gradient_clip_algorithm=value")
    torch.testing.assert_close(by_value, unclipped.clamp(-0.005, 0.005), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_accumulated_batches_equal_one_large_batch(kind: tuple[str, ...]) -> None:
    large, trainer, before = fit("data.batch_size=200", *kind)
    small, accumulating, _ = fit("data.batch_size=50", "trainer.accumulate_grad_batches=4", *kind)
    assert trainer.global_step == accumulating.global_step == 1
    torch.testing.assert_close(update(large, before), update(small, before), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_bfloat16_training_is_evaluated_in_float32(kind: tuple[str, ...], temper: Temper) -> None:
    status, output = temper("train", *QUICK, "trainer.precision=bf16-mixed", "trainer.max_epochs=6", *kind)
    assert status == 0, output
    (folder,) = Path("outputs/default").glob("*/seed-*")
    record = RunRecord.read(folder)
    assert record.curves["train/risk"][-1] < record.curves["train/risk"][0]
    module, _ = load(folder / "checkpoints/last.ckpt")
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    data = build_data(composed(*QUICK))
    (batch,) = data.loader("test", batch_size=60)
    with torch.no_grad():
        logits = module(batch.x)
    assert logits.dtype == torch.float32
    (evaluation,) = record.evaluations.values()
    accuracy = evaluation["checkpoints"]["last"]["metrics"]["test/clean"]
    assert accuracy == pytest.approx(float((logits.argmax(1) == batch.y).float().mean()))
