"""Tests of the penalties on weights against closed forms, torch's optimizers and reference loops."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from temper.data import Batch
from temper.models import MLP, Network, PreActResNet18, named_weights
from temper.penalties import (
    L1,
    L2,
    AdaptiveWeightDecay,
    BatchNorm,
    MaxNorm,
    Orthogonal,
    Penalty,
    Spectral,
    SpectralNorm,
    WeightDecay,
)
from temper.penalties.weights import Parameters, matrices
from tests.conftest import Linear, small_net
from tests.penalties.conftest import flat, images, mlp, normed_net


def is_weight(net: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield every parameter, and True if it is a weight by the type of its layer."""
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            yield parameter, isinstance(module, nn.Linear | nn.Conv2d) and name == "weight"


def grouped(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return parameter groups for torch's optimizers: only weights decay."""
    return [
        {"params": [p for p, weight in is_weight(net) if weight], "weight_decay": decay},
        {"params": [p for p, weight in is_weight(net) if not weight], "weight_decay": 0.0},
    ]


def test_l1_and_l2_on_a_linear_model(batch: Batch) -> None:
    net = Linear(torch.tensor([[[1.0, -2.0], [3.0, 0.0]]]), bias=7.0)
    assert L1().term(net, batch, batch.x).item() == 6
    assert L2().term(net, batch, batch.x).item() == 14 / 2


def test_the_gradients_of_l1_and_l2_are_sign_and_weight(batch: Batch) -> None:
    net = small_net()
    for kind, expected in ((L1, torch.sign), (L2, torch.clone)):
        net.zero_grad()
        kind().term(net, batch, batch.x).backward()
        for parameter, weight in is_weight(net):
            assert (parameter.grad is not None) == weight
            if parameter.grad is not None:
                torch.testing.assert_close(parameter.grad, expected(parameter.detach()))


def test_weights_are_distinguished_from_norm_layers_and_biases_by_type() -> None:
    net = BatchNorm().prepare(mlp())
    assert [name for name, _ in named_weights(net)] == ["layers.2.weight", "layers.6.weight"]
    # Names of norm layers in a shortcut or a Sequential do not contain "norm" or "bn".
    resnet = PreActResNet18(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.5] * 3, width=4)
    assert all(weight.ndim > 1 for _, weight in named_weights(resnet))
    assert len(list(named_weights(resnet))) == 1 + 16 + 3 + 1


@pytest.mark.parametrize("selection", ["weights", "all"])
@pytest.mark.parametrize("kind", [L1, L2])
def test_terms_exclude_norm_layers_and_biases_by_default(kind: type[L1 | L2], selection: Parameters, batch: Batch) -> None:
    net = normed_net()
    term = kind(parameters=selection).term(net, batch, batch.x)
    counted = [p.detach() for p, weight in is_weight(net) if weight or selection == "all"]
    sizes = [p.abs().sum() if kind is L1 else p.square().sum() / 2 for p in counted]
    torch.testing.assert_close(term, torch.stack(sizes).sum())
    term.backward()
    for parameter, weight in is_weight(net):
        assert (parameter.grad is not None) == (weight or selection == "all")


@pytest.mark.parametrize("selection", ["weights", "all"])
@pytest.mark.parametrize("kind", [WeightDecay, AdaptiveWeightDecay])
def test_decays_exclude_norm_layers_and_biases_by_default(kind: type[Penalty], selection: Parameters, batch: Batch) -> None:
    net = normed_net()
    nn.functional.cross_entropy(net(batch.x), batch.y).backward()
    penalty = (
        WeightDecay(decay=0.5, parameters=selection)
        if kind is WeightDecay
        else AdaptiveWeightDecay(ratio=1, parameters=selection)
    )
    before = [(p.detach().clone(), p.grad.clone()) for p in net.parameters() if p.grad is not None]
    penalty.before_step(net, lr=0.1)
    layers = dict((id(p), weight) for p, weight in is_weight(net))
    for parameter, (value, gradient) in zip(net.parameters(), before, strict=True):
        assert parameter.grad is not None
        acted = not torch.equal(parameter, value) or not torch.equal(parameter.grad, gradient)
        assert acted == (layers[id(parameter)] or selection == "all")


@pytest.mark.parametrize("penalty", [Orthogonal(), MaxNorm(limit=0.01)])
def test_penalties_on_matrices_ignore_norm_layers_and_biases(penalty: Penalty, batch: Batch) -> None:
    net = normed_net()
    before = {id(p): p.detach().clone() for p in net.parameters()}
    if isinstance(penalty, Orthogonal):
        penalty.term(net, batch, batch.x).backward()
    penalty.after_step(net)
    for parameter, weight in is_weight(net):
        assert (parameter.grad is not None or not torch.equal(parameter, before[id(parameter)])) == weight


@pytest.mark.parametrize("selection", ["weights", "all"])
def test_frozen_parameters_are_not_penalized(selection: Parameters, batch: Batch) -> None:
    net = mlp()
    first, last = (module for module in net.modules() if isinstance(module, nn.Linear))
    first.requires_grad_(False)
    expected = last.weight.square().sum() + (last.bias.square().sum() if selection == "all" else 0)
    torch.testing.assert_close(L2(parameters=selection).term(net, batch, batch.x), expected / 2)
    before = first.weight.clone()
    WeightDecay(decay=1, parameters=selection).before_step(net, lr=0.5)
    assert torch.equal(first.weight, before)


def test_l2_penalizes_the_weight_behind_a_parametrization(batch: Batch) -> None:
    net = SpectralNorm().prepare(mlp())
    plain = L2().term(mlp(), batch, batch.x)
    torch.testing.assert_close(L2().term(net, batch, batch.x), plain)


@pytest.mark.parametrize("selection", ["weights", "all"])
def test_l2_weight_equals_the_weight_decay_of_sgd(selection: Parameters, batch: Batch) -> None:
    nets = [small_net(), small_net()]
    decayed = torch.optim.SGD(nets[0].parameters(), lr=0.1, momentum=0.9)
    groups = grouped(nets[1], 0.01)
    groups[1]["weight_decay"] = 0.01 if selection == "all" else 0.0
    torchs = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for _ in range(5):
        for net, optimizer, weight in zip(nets, (decayed, torchs), (0.01, 0.0), strict=True):
            optimizer.zero_grad()
            (
                nn.functional.cross_entropy(net(batch.x), batch.y) + weight * L2(parameters=selection).term(net, batch, batch.x)
            ).backward()
            optimizer.step()
    torch.testing.assert_close(flat(nets[0]), flat(nets[1]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("selection", ["weights", "all"])
def test_decoupled_decay_with_adam_is_adamw(selection: Parameters, batch: Batch) -> None:
    nets = [normed_net(), normed_net()]
    adam = torch.optim.Adam(nets[0].parameters(), lr=0.01)
    groups = grouped(nets[1], 0.1)
    groups[1]["weight_decay"] = 0.1 if selection == "all" else 0.0
    adamw = torch.optim.AdamW(groups, lr=0.01)
    penalty = WeightDecay(decay=0.1, parameters=selection)
    for step in range(5):
        for net, optimizer in zip(nets, (adam, adamw), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (1 + step)  # the schedule scales both
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch.x), batch.y).backward()
            if optimizer is adam:
                penalty.before_step(net, lr=0.01 / (1 + step))
            optimizer.step()
    torch.testing.assert_close(flat(nets[0]), flat(nets[1]), atol=1e-6, rtol=1e-6)


def test_adaptive_decay_matches_a_reference_loop(batch: Batch) -> None:
    net, copy = small_net(), small_net()
    penalty = AdaptiveWeightDecay(ratio=0.3, memory=0.1)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (net, copy)]
    decay = 0.0
    for _ in range(4):
        for each, optimizer in zip((net, copy), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(each(batch.x), batch.y).backward()
        penalty.before_step(net, lr=0.1)
        weights = [parameter for parameter, weight in is_weight(copy) if weight]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norms = [sum(float(t.detach().double().square().sum()) for t in tensors) ** 0.5 for tensors in (gradients, weights)]
        decay = 0.1 * decay + 0.9 * 0.3 * norms[0] / norms[1]
        for weight, gradient in zip(weights, gradients, strict=True):
            gradient += decay * weight.detach()
        for optimizer in optimizers:
            optimizer.step()
        assert penalty.decay.item() == pytest.approx(decay, rel=1e-4)
        torch.testing.assert_close(flat(net), flat(copy), atol=1e-6, rtol=1e-5)


def test_without_memory_the_decay_is_in_a_fixed_ratio_to_the_gradient(batch: Batch) -> None:
    net = small_net()
    nn.functional.cross_entropy(net(batch.x), batch.y).backward()
    weights = [parameter for parameter, weight in is_weight(net) if weight]
    before = [weight.grad.clone() for weight in weights if weight.grad is not None]
    AdaptiveWeightDecay(ratio=0.5, memory=0).before_step(net, lr=0.1)
    added = [weight.grad - old for weight, old in zip(weights, before, strict=True) if weight.grad is not None]

    def length(tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.flatten() for t in tensors]).norm()

    torch.testing.assert_close(length(added), 0.5 * length(before))


def test_the_adaptive_decay_is_in_the_checkpoint() -> None:
    assert list(AdaptiveWeightDecay(ratio=0.1).state_dict()) == ["decay"]


def linear(*weights: Tensor) -> Network:
    """Return a network of linear layers with these weights."""
    net = MLP(
        shape=(weights[0].shape[1],), classes=len(weights[-1]), mean=[0.0], std=[1.0], hidden=[len(w) for w in weights[:-1]]
    )
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data.copy_(weight)
    return net


def test_orthogonal_matrices_are_not_penalized(batch: Batch) -> None:
    wide, tall = nn.init.orthogonal_(torch.empty(3, 7)), nn.init.orthogonal_(torch.empty(7, 3))
    assert Orthogonal().term(linear(wide, tall), batch, batch.x).item() < 1e-10


def test_orthogonal_penalty_matches_the_singular_values(batch: Batch) -> None:
    """||W W^T - I||_F^2 = sum (s^2 - 1)^2 over the singular values."""
    net = small_net()
    singular = [torch.linalg.svdvals(w.detach().flatten(1)) for w, weight in is_weight(net) if weight]
    expected = torch.stack([(s.square() - 1).square().sum() for s in singular]).sum()
    torch.testing.assert_close(Orthogonal().term(net, batch, batch.x), expected)


def test_orthogonal_penalty_uses_the_smaller_gram_matrix(batch: Batch) -> None:
    diagonal = torch.diag(torch.tensor([2.0, 1.0, 0.5]))
    padded = torch.cat([diagonal, torch.zeros(3, 5)], dim=1)
    expected = (4 - 1) ** 2 + (0.25 - 1) ** 2
    for matrix in (padded, padded.T):
        assert Orthogonal().term(linear(matrix), batch, batch.x).item() == pytest.approx(expected)


@given(limit=st.floats(0.05, 3), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_max_norm_limits_the_norm_of_every_unit(limit: float, seed: int) -> None:
    net = small_net(seed)
    # Some rows are far below the limit and some far above.
    for matrix in matrices(net):
        matrix.data.mul_(torch.logspace(-2, 2, len(matrix))[:, None])
    before = [(p.detach().clone(), weight) for p, weight in is_weight(net)]
    MaxNorm(limit=limit).after_step(net)
    for (old, weight), (new, _) in zip(before, is_weight(net), strict=True):
        if not weight:
            assert torch.equal(old, new)
            continue
        was, now = old.flatten(1), new.detach().flatten(1)
        assert (now.norm(dim=1) <= limit * (1 + 1e-5)).all()
        short = was.norm(dim=1) <= limit
        assert torch.equal(now[short], was[short])
        torch.testing.assert_close(now[~short], limit * nn.functional.normalize(was[~short], dim=1))


def test_convolutions_have_one_row_per_output_channel() -> None:
    shapes = [tuple(matrix.shape) for matrix in matrices(small_net())]
    assert shapes == [(4, 9), (8, 36), (16, 32), (10, 16)]


def test_weight_penalties_are_independent_of_the_data() -> None:
    net = small_net()
    for penalty in (L1(), L2(), Orthogonal()):
        one, other = (penalty.term(net, data, data.x) for data in (images(seed=0), images(seed=1)))
        assert torch.equal(one, other)


def test_an_overflowed_gradient_does_not_change_the_adaptive_decay(batch: Batch) -> None:
    net, penalty = small_net(), AdaptiveWeightDecay(ratio=0.3)
    nn.functional.cross_entropy(net(batch.x), batch.y).backward()
    penalty.before_step(net, lr=0.1)
    before = penalty.decay.clone()
    for parameter in net.parameters():
        assert parameter.grad is not None
        parameter.grad.fill_(torch.inf)
    penalty.before_step(net, lr=0.1)
    assert before > 0 and torch.equal(penalty.decay, before)


def test_orthogonal_penalizes_the_parametrized_weights(batch: Batch) -> None:
    net = SpectralNorm(iterations=50).prepare(small_net()).eval()
    layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    singular = [torch.linalg.svdvals(layer.weight.detach().flatten(1)) for layer in layers]
    expected = torch.stack([(s.square() - 1).square().sum() for s in singular]).sum()
    torch.testing.assert_close(Orthogonal().term(net, batch, batch.x), expected, rtol=1e-4, atol=1e-5)


def test_max_norm_refuses_parametrized_weights() -> None:
    with pytest.raises(ValueError, match=r"cannot be scaled back\. Use only one of the two"):
        MaxNorm(limit=1).prepare(SpectralNorm().prepare(small_net()))


def test_biases_of_recurrent_and_attention_layers_are_excluded() -> None:
    both = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "attention": nn.MultiheadAttention(4, 2), "norm": nn.LayerNorm(4)})
    assert {name for name, _ in named_weights(both)} == {
        "lstm.weight_ih_l0", "lstm.weight_hh_l0", "attention.in_proj_weight", "attention.out_proj.weight",
    }  # fmt: skip


class WithoutWeights(nn.Module):
    """Network without weights."""


def test_power_iteration_converges_to_the_spectral_norm(batch: Batch) -> None:
    net, penalty = small_net(), Spectral()
    penalty.prepare(net)
    with torch.no_grad():
        for _ in range(300):
            penalty.term(net, batch, batch.x)
    expected = torch.stack([torch.linalg.matrix_norm(matrix, 2) for matrix in matrices(net)]).square().sum() / 2
    term = penalty.term(net, batch, batch.x)
    torch.testing.assert_close(term, expected, rtol=1e-4, atol=1e-5)
    # The gradient of sigma^2 / 2 is sigma u v^T.
    term.backward()
    for weight in net.parameters():
        if weight.ndim > 1:
            assert weight.grad is not None
            u, sigma, v = torch.linalg.svd(weight.detach().flatten(1), full_matrices=False)
            torch.testing.assert_close(weight.grad.flatten(1), sigma[0] * torch.outer(u[:, 0], v[0]), rtol=0.02, atol=0.01)
        else:
            assert weight.grad is None


def test_each_term_takes_one_power_iteration(batch: Batch) -> None:
    net, penalty = mlp(), Spectral()
    penalty.prepare(net)
    first = next(iter(matrices(net))).detach()
    v = penalty.state_dict()["v0"].clone()
    for _ in range(3):
        penalty.term(net, batch, batch.x)
        u = nn.functional.normalize(first @ v, dim=0)
        v = nn.functional.normalize(first.T @ u, dim=0)
        torch.testing.assert_close(penalty.state_dict()["v0"], v)


def test_the_estimate_never_exceeds_the_spectral_norm(batch: Batch) -> None:
    net, penalty = small_net(), Spectral()
    penalty.prepare(net)
    largest = torch.stack([torch.linalg.matrix_norm(matrix, 2) for matrix in matrices(net)]).square().sum() / 2
    terms = [penalty.term(net, batch, batch.x).item() for _ in range(10)]
    assert terms == sorted(terms) or max(abs(a - b) for a, b in zip(terms, sorted(terms), strict=True)) < 1e-5
    assert terms[-1] <= largest.item() * (1 + 1e-5)


def test_singular_vectors_are_in_the_checkpoint_and_independent_of_the_seed(batch: Batch) -> None:
    one, other = Spectral(), Spectral()
    one.prepare(small_net(0))
    torch.manual_seed(99)
    other.prepare(small_net(1))
    assert one.state_dict().keys() == {"v0", "v1", "v2", "v3"}
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    one.term(small_net(), batch, batch.x)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.term(small_net(), batch, batch.x), other.term(small_net(), batch, batch.x))


def test_spectral_does_not_use_the_global_generator() -> None:
    torch.manual_seed(0)
    Spectral().prepare(small_net(0))
    after = torch.rand(3)
    small_net(0)
    assert torch.equal(torch.rand(3), after)


def test_spectral_ignores_norm_layers() -> None:
    penalty = Spectral()
    penalty.prepare(normed_net())
    assert len(penalty.state_dict()) == 4


def test_spectral_refuses_a_network_without_matrices() -> None:
    with pytest.raises(ValueError, match="no weight matrices, so this penalty would have no effect"):
        Spectral().prepare(WithoutWeights())  # type: ignore[arg-type]


def test_spectral_agrees_with_torchs_parametrization() -> None:
    batch = images()
    net, penalty = SpectralNorm(iterations=20).prepare(mlp()).train(), Spectral()
    penalty.prepare(net)
    with torch.no_grad():
        for _ in range(30):
            net(batch.x)
            penalty.term(net, batch, batch.x)
    # A matrix that torch has divided by its norm has the norm 1.
    assert penalty.term(net, batch, batch.x).item() == pytest.approx(2 / 2, rel=1e-2)
