"""Tests of learning-rate schedules."""

import math
from typing import Any

import pytest
import torch

from temper.data.loading import build_data
from temper.schedules import constant, cosine, piecewise, triangle
from tests.conftest import composed


def test_values() -> None:
    assert constant()(0.7) == 1
    assert [triangle(peak=0.5)(t) for t in (0, 0.25, 0.5, 0.75, 1)] == [0, 0.5, 1, 0.5, 0]
    assert cosine()(0) == 1 and cosine()(0.5) == pytest.approx(0.5) and cosine()(1) == pytest.approx(0)
    assert cosine(warmup=0.2)(0.1) == 0.5 and cosine(warmup=0.2)(0.2) == 1
    assert [piecewise()(t) for t in (0.49, 0.5, 0.75)] == pytest.approx([1, 0.1, 0.01])


def test_warmup_ends_and_every_parameter_group_follows() -> None:
    """Guard against counting samples instead of steps, which never ends the warmup, and changing only the first group."""
    from temper.training.modules import build_module

    config = composed("schedule=triangle", "trainer.max_epochs=3", "data.train_size=320", "data.batch_size=32")
    module = build_module(config)
    data = build_data(config)

    class FakeTrainer:
        datamodule, max_epochs, accumulate_grad_batches, limit_train_batches = data, 3, 1, None

    module._trainer = FakeTrainer()  # type: ignore[assignment]
    parameters = list(module.net.parameters())
    groups: list[dict[str, Any]] = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5}]
    module.optimizer = lambda _: torch.optim.SGD(groups, lr=0.1)
    configured: Any = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    steps = 3 * math.ceil(320 / 32)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    first, second = zip(*rates, strict=True)
    assert 8 <= first.index(max(first)) <= 9 and max(first) == pytest.approx(0.1, rel=0.1)
    assert min(first) > 0 and first[-1] < 0.01
    assert second == pytest.approx([5 * rate for rate in first])
