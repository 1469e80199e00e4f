"""Networks of tokens: the space of their embeddings, and what padding must not change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from temper.attacks import L2, PGD
from temper.attacks.attack import land
from temper.data import Batch
from temper.evaluation.metrics import weight_statistics
from temper.models import StepNetwork, TextCNN, TextNetwork, TextTransformer
from temper.penalties import AWP, Curvature, Dropout, InputGradient, Jacobian, LocalLinearity, StochasticDepth
from temper.penalties import L2 as L2Penalty
from temper.penalties.penalty import Penalty

INFINITE = {"lower": -torch.inf, "upper": torch.inf}
TOKENS = torch.tensor([[5, 3, 8, 2, 9, 4], [7, 1, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]])
MAKE: dict[str, Callable[[], TextNetwork]] = {
    "cnn": lambda: TextCNN(vocabulary=10, classes=2, dim=6, filters=4),
    "transformer": lambda: TextTransformer(vocabulary=10, length=8, classes=2, dim=6, heads=2, hidden=8),
}
each = pytest.mark.parametrize("name", list(MAKE))


def made(name: str) -> TextNetwork:
    torch.manual_seed(0)
    net = MAKE[name]()
    net.observe(TOKENS)
    return net.eval()


def texts() -> Batch:
    y = torch.tensor([0, 1, 1])
    return replace(Batch.of(TOKENS, y), mask=(TOKENS != 0).unsqueeze(2).float())


def test_embeddings_have_mean_0_and_variance_1_over_the_tokens_that_occur() -> None:
    net = made("cnn")
    z, words = net.lift(TOKENS), TOKENS != 0
    normal = (z * net._length(words).unsqueeze(2))[words]
    torch.testing.assert_close(normal.mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.var(0, correction=0), torch.ones(6))
    torch.testing.assert_close(z.flatten(1).square().sum(1) @ words.sum(1).float(), torch.tensor(9.0))


@each
def test_long_embeddings_do_not_make_perturbations_small(name: str) -> None:
    net = made(name)
    before, logits = net.lift(TOKENS), net(TOKENS)
    with torch.no_grad():
        net.embedding.mul_(1000).add_(7)
    torch.testing.assert_close(net.lift(TOKENS), before, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(net(TOKENS), logits, atol=1e-4, rtol=1e-3)


@each
def test_the_size_of_an_embedding_means_nothing_and_is_not_penalized(name: str) -> None:
    net, batch = made(name), texts()

    def seen() -> tuple[Tensor, Tensor, float]:
        return net(TOKENS), L2Penalty().term(net, batch, batch.x), weight_statistics(net, (6,))["norm"]

    logits, penalty, norm = seen()
    with torch.no_grad():
        net.embedding.mul_(3)
    for before, after in zip((logits, penalty), seen(), strict=False):
        torch.testing.assert_close(before, after)
    assert norm == pytest.approx(float(2 * penalty) ** 0.5) and norm == seen()[2]
    others = [parameter for parameter in net.parameters() if parameter is not net.embedding]
    everything = L2Penalty(parameters="all").term(net, batch, batch.x)
    torch.testing.assert_close(2 * everything, sum((p.square().sum() for p in others), net.embedding.square().sum()))
    assert "embedding" in AWP(gamma=0.1).shift(net, lambda step: step(TOKENS).square().sum()), "what they say is perturbed"


@each
def test_what_is_lifted_passes_through(name: str) -> None:
    net = made(name)
    assert net.lift(net.lift(TOKENS)) is not None and torch.equal(net(net.lift(TOKENS)), net(TOKENS))
    torch.testing.assert_close(net.lift(TOKENS)[1:, 2:], torch.zeros(2, 4, 6))


@each
def test_padding_and_the_rest_of_the_batch_change_nothing(name: str) -> None:
    net = made(name)
    together = net(F.pad(TOKENS, (0, 2)))
    for row, text in enumerate(TOKENS):
        torch.testing.assert_close(net(text[text != 0][None])[0], together[row])
    changed = net.lift(TOKENS).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(changed).sum(), changed)
    assert (gradient[TOKENS == 0] == 0).all() and (gradient[TOKENS != 0] != 0).any(1).all()


def test_a_filter_finds_what_its_window_holds() -> None:
    """Against convolutions of each text by itself."""
    net = cast(Any, made("cnn"))
    text = TOKENS[1, :2]
    z = net.lift(text[None]) * (2 * 6) ** 0.5
    windows = [
        F.conv1d(z.transpose(1, 2), part[0].weight, part[0].bias, padding=part[0].kernel_size[0] - 1) for part in net.windows
    ]
    features = torch.cat([window.relu().amax(2) for window in windows], 1)
    torch.testing.assert_close(net.head(features), net(TOKENS[1:2]))


def test_attention_is_torchs_own() -> None:
    block = cast(Any, made("transformer")).blocks[0]
    own = nn.MultiheadAttention(6, 2, batch_first=True)
    own.load_state_dict(
        {
            "in_proj_weight": block.project.weight,
            "in_proj_bias": block.project.bias,
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
    )
    x, present = torch.randn(3, 6, 6), TOKENS != 0
    torch.testing.assert_close(block._attention(x, present), own(x, x, x, key_padding_mask=~present)[0])


@each
def test_embeddings_are_trained_at_the_points_of_an_attack(name: str) -> None:
    net, batch = made(name), texts()
    threat = L2(eps=0.1, **INFINITE)
    attack = PGD(threat=threat, steps=2)
    x_adv = attack.perturb(net, batch)
    assert torch.equal(x_adv[TOKENS == 0], torch.zeros(9, 6)), "padding is left alone"
    assert (threat.length(x_adv - net.lift(TOKENS)) <= 0.1 * (1 + 1e-6)).all()
    risk = attack.risk(net, batch, x_adv)
    torch.testing.assert_close(risk, F.cross_entropy(net(x_adv), batch.y, reduction="none"))
    risk.sum().backward()
    gradient = net.embedding.grad
    assert gradient is not None and gradient.abs().sum() > 0


@each
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
def test_penalties_on_gradients_train_the_embeddings_too(penalty: Penalty, name: str) -> None:
    """Their derivative by the embedding, against the quotient of differences along it."""
    net, batch = made(name).double(), texts()
    batch = replace(batch, mask=batch.mask.double())  # type: ignore[union-attr]

    def term() -> Tensor:
        torch.manual_seed(1)
        value = penalty.term(net, batch, batch.x)
        assert value is not None
        return value

    if isinstance(penalty, LocalLinearity):  # the point that it finds is held constant
        delta = penalty._furthest(net, batch, net.lift(batch.x).detach()) - net.lift(batch.x).detach()
        penalty._furthest = lambda net, batch, z: z + delta  # type: ignore[method-assign]
    weight = net.embedding
    (gradient,) = torch.autograd.grad(term(), weight)
    direction = torch.randn_like(weight)
    step = 1e-4 * direction  # losses are in single precision
    weight.data.add_(step)
    above = term().detach()
    weight.data.sub_(2 * step)
    torch.testing.assert_close((gradient * direction).sum(), (above - term().detach()) / 2e-4, rtol=1e-2, atol=1e-4)


@each
def test_a_displaced_network_lifts_by_its_displaced_embeddings(name: str) -> None:
    net = made(name)
    shift = {"embedding": torch.randn(10, 6)}
    step = StepNetwork(net, shift)
    found, clean = step(land(step, TOKENS, net.lift(TOKENS).detach())), step(TOKENS)
    lifted = step.lift(TOKENS)
    with torch.no_grad():
        net.embedding.add_(shift["embedding"])
    torch.testing.assert_close(lifted, net.lift(TOKENS))
    torch.testing.assert_close(clean, net(TOKENS))
    assert found.requires_grad and not torch.allclose(found, clean)


def test_a_token_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.vocabulary is 10, but the data have token 12"):
        made("cnn").observe(torch.tensor([[12]]))


def test_there_is_room_for_penalties() -> None:
    for name, penalty in [("cnn", Dropout(p=0.5)), ("transformer", Dropout(p=0.5)), ("transformer", StochasticDepth(p=0.5))]:
        net = penalty.prepare(made(name)).train()
        assert not torch.equal(net(TOKENS), net(TOKENS))
