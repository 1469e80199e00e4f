"""The largest singular values against torch's."""

import pytest
import torch
from torch import nn

from temper.data import Batch
from temper.penalties import Spectral, SpectralNorm
from temper.penalties.weights import matrices
from tests.conftest import small_net
from tests.penalties.conftest import images, mlp, normed_net


class Nothing(nn.Module):
    """No weights at all."""


def test_after_enough_iterations_it_is_the_spectral_norm(batch: Batch) -> None:
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


def test_one_step_of_the_power_iteration_a_term(batch: Batch) -> None:
    net, penalty = mlp(), Spectral()
    penalty.prepare(net)
    first = next(iter(matrices(net))).detach()
    v = penalty.state_dict()["v0"].clone()
    for _ in range(3):
        penalty.term(net, batch, batch.x)
        u = nn.functional.normalize(first @ v, dim=0)
        v = nn.functional.normalize(first.T @ u, dim=0)
        torch.testing.assert_close(penalty.state_dict()["v0"], v)


def test_it_is_never_more_than_the_spectral_norm(batch: Batch) -> None:
    net, penalty = small_net(), Spectral()
    penalty.prepare(net)
    most = torch.stack([torch.linalg.matrix_norm(matrix, 2) for matrix in matrices(net)]).square().sum() / 2
    terms = [penalty.term(net, batch, batch.x).item() for _ in range(10)]
    assert terms == sorted(terms) or max(abs(a - b) for a, b in zip(terms, sorted(terms), strict=True)) < 1e-5
    assert terms[-1] <= most.item() * (1 + 1e-5)


def test_the_vectors_are_in_the_checkpoint_and_the_same_for_all(batch: Batch) -> None:
    one, other = Spectral(), Spectral()
    one.prepare(small_net(0))
    torch.manual_seed(99)
    other.prepare(small_net(1))
    assert one.state_dict().keys() == {"v0", "v1", "v2", "v3"}
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    one.term(small_net(), batch, batch.x)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.term(small_net(), batch, batch.x), other.term(small_net(), batch, batch.x))


def test_preparing_draws_nothing_from_the_runs_own_randomness() -> None:
    torch.manual_seed(0)
    Spectral().prepare(small_net(0))
    after = torch.rand(3)
    small_net(0)
    assert torch.equal(torch.rand(3), after)


def test_norm_layers_are_no_matrices() -> None:
    penalty = Spectral()
    penalty.prepare(normed_net())
    assert len(penalty.state_dict()) == 4


def test_a_network_without_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="no weight matrices: this penalty would have no effect"):
        Spectral().prepare(Nothing())  # type: ignore[arg-type]


def test_it_agrees_with_the_parametrization_of_torch() -> None:
    batch = images()
    net, penalty = SpectralNorm(iterations=20).prepare(mlp()).train(), Spectral()
    penalty.prepare(net)
    with torch.no_grad():
        for _ in range(30):
            net(batch.x)
            penalty.term(net, batch, batch.x)
    # What torch has divided by its norm has the norm 1.
    assert penalty.term(net, batch, batch.x).item() == pytest.approx(2 / 2, rel=1e-2)
