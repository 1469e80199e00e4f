"""Tests of the penalties on predictions and targets against torch's distributions and losses, and closed forms."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from temper.data import Batch
from temper.penalties import Confidence, LabelSmoothing, LogitSqueezing, SelfDistillation
from tests.conftest import Linear, small_net
from tests.penalties.conftest import flat, images, normed_net, softened


def test_confidence_is_the_negative_entropy(batch: Batch) -> None:
    net = small_net()
    expected = -Categorical(logits=net(batch.x)).entropy().mean()
    torch.testing.assert_close(Confidence().term(net, batch, batch.x), expected)


def test_confidence_of_uniform_and_of_certain_predictions(batch: Batch) -> None:
    net = Linear(torch.zeros(1, 8, 8))
    assert Confidence().term(net, batch, batch.x).item() == pytest.approx(-math.log(2))
    sure = Linear(torch.zeros(1, 8, 8), bias=500.0)
    term = Confidence().term(sure, batch, batch.x)
    term.backward()
    assert term.item() == 0
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in sure.parameters())


def test_logit_squeezing_on_a_linear_model(batch: Batch) -> None:
    torch.manual_seed(0)
    net = Linear(torch.randn(1, 8, 8), bias=0.3)
    score = (batch.x * net.weight).flatten(1).sum(1) + 0.3
    torch.testing.assert_close(LogitSqueezing().term(net, batch, batch.x), score.square().mean())


@pytest.mark.parametrize("penalty", [Confidence(), LogitSqueezing()])
def test_terms_use_the_points_that_are_trained_on(penalty: Confidence | LogitSqueezing, batch: Batch) -> None:
    net = small_net()
    x_adv = 1 - batch.x
    assert torch.equal(penalty.term(net, batch, x_adv), penalty.term(net, images(3), x_adv))
    assert not torch.equal(penalty.term(net, batch, x_adv), penalty.term(net, batch, batch.x))


def distilled(temperature: float = 2.0, memory: float = 0.9) -> SelfDistillation:
    return SelfDistillation(temperature=temperature, memory=memory)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_a_scaled_divergence_from_the_teacher(temperature: float, batch: Batch) -> None:
    net, penalty = small_net(0), distilled(temperature)
    penalty.prepare(small_net(1))
    teacher = Categorical(logits=small_net(1)(batch.x) / temperature)
    student = Categorical(logits=net(batch.x) / temperature)
    expected = temperature**2 * kl_divergence(teacher, student).mean()
    torch.testing.assert_close(penalty.term(net, batch, batch.x), expected)


def test_the_initial_teacher_equals_the_network(batch: Batch) -> None:
    net, penalty = small_net(), distilled()
    penalty.prepare(net)
    term = penalty.term(net, batch, batch.x)
    term.backward()
    assert term.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(flat(penalty.teacher), flat(net))
    assert all(parameter.grad is None for parameter in penalty.teacher.parameters())


def test_the_teacher_is_the_running_average(batch: Batch) -> None:
    net, penalty = normed_net(), distilled(memory=0.8)
    penalty.prepare(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    average: Tensor = flat(net).clone()
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(net(batch.x), batch.y).backward()
        optimizer.step()
        penalty.after_step(net)
        average = 0.8 * average + 0.2 * flat(net)
        torch.testing.assert_close(flat(penalty.teacher), average, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(average, flat(net))
    for (name, buffer), (_, student) in zip(penalty.teacher.named_buffers(), net.named_buffers(), strict=True):
        assert torch.equal(buffer, student), name


def test_the_teacher_predicts_in_eval_mode_and_is_not_trained(batch: Batch) -> None:
    net, penalty = normed_net(), distilled()
    penalty.prepare(net)
    penalty.train()
    net.train()
    before = copy.deepcopy(penalty.teacher.state_dict())
    penalty.term(net, batch, batch.x).backward()
    assert all(torch.equal(value, before[name]) for name, value in penalty.teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in penalty.parameters())
    expected = penalty.teacher.eval()(batch.x)
    student = net(batch.x)
    divergence = kl_divergence(Categorical(logits=expected / 2), Categorical(logits=student / 2)).mean() * 4
    torch.testing.assert_close(penalty.term(net, batch, batch.x), divergence)


def test_the_teacher_is_in_the_checkpoint() -> None:
    net, penalty = small_net(), distilled()
    penalty.prepare(net)
    assert set(penalty.state_dict()) == {f"teacher.{name}" for name in net.state_dict()}


def test_label_smoothing_matches_torch(batch: Batch) -> None:
    logits = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))
    smoothed = LabelSmoothing(smoothing=0.2, classes=10).transform(batch)
    torch.testing.assert_close(
        F.cross_entropy(logits, smoothed.target),
        F.cross_entropy(logits, batch.y, label_smoothing=0.2),
    )
    torch.testing.assert_close(smoothed.target.sum(1), torch.ones(32))
    assert torch.equal(smoothed.y, batch.y), "accuracy is measured against hard labels"
    assert LabelSmoothing(smoothing=0, classes=10).transform(batch) is batch


@given(smoothing=st.floats(0.01, 1), classes=st.integers(2, 20), soft=st.booleans())
@settings(max_examples=25, deadline=None)
def test_label_smoothing_of_hard_and_soft_targets_matches_torch(smoothing: float, classes: int, soft: bool) -> None:
    batch = images(classes=classes)
    batch = softened(batch, classes) if soft else batch
    logits = torch.randn(len(batch), classes, generator=torch.Generator().manual_seed(1))
    loss = F.cross_entropy(logits, LabelSmoothing(smoothing=smoothing, classes=classes).transform(batch).target)
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.target, label_smoothing=smoothing))


def test_full_label_smoothing_gives_uniform_targets() -> None:
    target = LabelSmoothing(smoothing=1, classes=4).transform(images(classes=4)).target
    torch.testing.assert_close(target, torch.full((8, 4), 0.25))


def test_label_smoothing_above_1_is_refused() -> None:
    with pytest.raises(ValueError, match="smoothing"):
        LabelSmoothing(smoothing=1.1, classes=10)
