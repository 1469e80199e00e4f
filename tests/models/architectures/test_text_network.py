"""Tests of text networks: normalized embeddings, padding, attacks and penalties."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.attacks import L2, PGD
from temper.attacks.attack import with_lift_gradient
from temper.data import Batch
from temper.evaluation.metrics import weight_statistics
from temper.models import StepNetwork, TextCNN, TextNetwork, TextTransformer
from temper.penalties import AWP, Curvature, Dropout, InputGradient, Jacobian, LocalLinearity, StochasticDepth
from temper.penalties import L2 as L2Penalty
from temper.penalties.penalty import Penalty

INFINITE = {"lower": -torch.inf, "upper": torch.inf}
TOKENS = torch.tensor([[5, 3, 8, 2, 9, 4], [7, 1, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]])
BUILDERS: dict[str, Callable[[], TextNetwork]] = {
    "cnn": lambda: TextCNN(vocabulary=10, classes=2, dim=6, filters=4),
    "transformer": lambda: TextTransformer(vocabulary=10, length=8, classes=2, dim=6, heads=2, hidden=8),
}
all_networks = pytest.mark.parametrize("name", list(BUILDERS))


def build(name: str) -> TextNetwork:
    torch.manual_seed(0)
    net = BUILDERS[name]()
    net.observe(TOKENS)
    return net.eval()


def texts() -> Batch:
    y = torch.tensor([0, 1, 1])
    return replace(Batch.of(TOKENS, y), mask=(TOKENS != 0).unsqueeze(2).float())


def test_embeddings_have_mean_0_and_variance_1_over_the_tokens_that_occur() -> None:
    net = build("cnn")
    z, words = net.lift(TOKENS), TOKENS != 0
    normal = (z * net._length(words).unsqueeze(2))[words]
    torch.testing.assert_close(normal.mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.var(0, correction=0), torch.ones(6))
    torch.testing.assert_close(z.flatten(1).square().sum(1) @ words.sum(1).float(), torch.tensor(9.0))


@all_networks
def test_the_scale_of_embeddings_has_no_effect_on_lifted_points(name: str) -> None:
    net = build(name)
    before, logits = net.lift(TOKENS), net(TOKENS)
    with torch.no_grad():
        net.embedding.mul_(1000).add_(7)
    torch.testing.assert_close(net.lift(TOKENS), before, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(net(TOKENS), logits, atol=1e-4, rtol=1e-3)


@all_networks
def test_the_scale_of_embeddings_is_not_penalized(name: str) -> None:
    net, batch = build(name), texts()

    def measure() -> tuple[Tensor, Tensor, float]:
        return net(TOKENS), L2Penalty().term(net, batch, batch.x), weight_statistics(net, (6,))["norm"]

    logits, penalty, norm = measure()
    with torch.no_grad():
        net.embedding.mul_(3)
    for before, after in zip((logits, penalty), measure(), strict=False):
        torch.testing.assert_close(before, after)
    assert norm == pytest.approx(float(2 * penalty) ** 0.5) and norm == measure()[2]
    others = [parameter for parameter in net.parameters() if parameter is not net.embedding]
    everything = L2Penalty(parameters="all").term(net, batch, batch.x)
    torch.testing.assert_close(2 * everything, sum((p.square().sum() for p in others), net.embedding.square().sum()))
    assert "embedding" in AWP(gamma=0.1).shift(net, lambda step: step(TOKENS).square().sum()), (
        "weight perturbations include the embeddings"
    )


@all_networks
def test_lifted_points_pass_through_lift(name: str) -> None:
    net = build(name)
    assert net.lift(net.lift(TOKENS)) is not None and torch.equal(net(net.lift(TOKENS)), net(TOKENS))
    torch.testing.assert_close(net.lift(TOKENS)[1:, 2:], torch.zeros(2, 4, 6))


@all_networks
def test_padding_and_the_other_texts_of_a_batch_have_no_effect(name: str) -> None:
    net = build(name)
    together = net(F.pad(TOKENS, (0, 2)))
    for row, text in enumerate(TOKENS):
        torch.testing.assert_close(net(text[text != 0][None])[0], together[row])
    changed = net.lift(TOKENS).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(changed).sum(), changed)
    assert (gradient[TOKENS == 0] == 0).all() and (gradient[TOKENS != 0] != 0).any(1).all()


def test_text_cnn_equals_explicit_convolutions() -> None:
    """Compare with the convolutions of a single text."""
    net = cast(Any, build("cnn"))
    text = TOKENS[1, :2]
    z = net.lift(text[None]) * (2 * 6) ** 0.5
    windows = [
        F.conv1d(z.transpose(1, 2), part[0].weight, part[0].bias, padding=part[0].kernel_size[0] - 1) for part in net.windows
    ]
    features = torch.cat([window.relu().amax(2) for window in windows], 1)
    torch.testing.assert_close(net.head(features), net(TOKENS[1:2]))


def test_attention_equals_that_of_torch() -> None:
    block = cast(Any, build("transformer")).blocks[0]
    reference = nn.MultiheadAttention(6, 2, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": block.project.weight,
            "in_proj_bias": block.project.bias,
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
    )
    x, present = torch.randn(3, 6, 6), TOKENS != 0
    torch.testing.assert_close(block._attention(x, present), reference(x, x, x, key_padding_mask=~present)[0])


@all_networks
def test_embeddings_get_gradients_at_adversarial_points(name: str) -> None:
    net, batch = build(name), texts()
    threat = L2(eps=0.1, **INFINITE)
    attack = PGD(threat=threat, steps=2)
    x_adv = attack.perturb(net, batch)
    assert torch.equal(x_adv[TOKENS == 0], torch.zeros(9, 6)), "padding is not perturbed"
    assert (threat.length(x_adv - net.lift(TOKENS)) <= 0.1 * (1 + 1e-6)).all()
    risk = attack.risk(net, batch, x_adv)
    torch.testing.assert_close(risk, F.cross_entropy(net(x_adv), batch.y, reduction="none"))
    risk.sum().backward()
    gradient = net.embedding.grad
    assert gradient is not None and gradient.abs().sum() > 0


@all_networks
@pytest.mark.parametrize(
    "penalty",
    [
        InputGradient(),
        Jacobian(),
        Curvature(h=0.1),
        LocalLinearity(threat=L2(eps=0.1, **INFINITE), steps=1),
    ],
    ids=lambda penalty: type(penalty).__name__,
)
def test_penalties_on_gradients_have_correct_gradients_for_the_embeddings(penalty: Penalty, name: str) -> None:
    """Compare the derivative with respect to the embedding with a finite difference."""
    net, batch = build(name).double(), texts()
    batch = replace(batch, mask=batch.mask.double())  # type: ignore[union-attr]

    def term() -> Tensor:
        torch.manual_seed(1)
        value = penalty.term(net, batch, batch.x)
        assert value is not None
        return value

    if isinstance(penalty, LocalLinearity):  # its inner maximization is held constant
        delta = penalty._least_linear_point(net, batch, net.lift(batch.x).detach()) - net.lift(batch.x).detach()
        penalty._least_linear_point = lambda net, batch, z: z + delta  # type: ignore[method-assign]
    weight = net.embedding
    (gradient,) = torch.autograd.grad(term(), weight)
    direction = torch.randn_like(weight)
    step = 1e-4 * direction  # losses are in single precision
    weight.data.add_(step)
    above = term().detach()
    weight.data.sub_(2 * step)
    torch.testing.assert_close((gradient * direction).sum(), (above - term().detach()) / 2e-4, rtol=1e-2, atol=1e-4)


@all_networks
def test_a_displaced_network_lifts_with_displaced_embeddings(name: str) -> None:
    net = build(name)
    shift = {"embedding": torch.randn(10, 6)}
    step = StepNetwork(net, shift)
    adversarial, clean = step(with_lift_gradient(step, TOKENS, net.lift(TOKENS).detach())), step(TOKENS)
    lifted = step.lift(TOKENS)
    with torch.no_grad():
        net.embedding.add_(shift["embedding"])
    torch.testing.assert_close(lifted, net.lift(TOKENS))
    torch.testing.assert_close(clean, net(TOKENS))
    assert adversarial.requires_grad and not torch.allclose(adversarial, clean)


def test_a_token_beyond_the_vocabulary_raises() -> None:
    with pytest.raises(ValueError, match=r"model\.vocabulary=10: the data has token 12\. Set model\.vocabulary to at least 13"):
        build("cnn").observe(torch.tensor([[12]]))


def test_dropout_penalties_have_slots() -> None:
    for name, penalty in [("cnn", Dropout(p=0.5)), ("transformer", Dropout(p=0.5)), ("transformer", StochasticDepth(p=0.5))]:
        net = penalty.prepare(build(name)).train()
        assert not torch.equal(net(TOKENS), net(TOKENS))
