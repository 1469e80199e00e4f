"""FreeLB compared with the paper's loop, which takes both gradients in one backward pass."""

import pytest
import torch
import torch.nn.functional as F

from temper.attacks import L2, FreeLB
from temper.attacks.network_state import probing
from temper.data import Batch
from temper.models import CNN
from tests.conftest import small_net


def test_gradient_equals_the_papers_loop(batch: Batch) -> None:
    net, threat = small_net().eval(), L2(eps=0.5)
    attack = FreeLB(threat=threat, steps=3, step_size="0.4 eps", start="uniform")
    torch.manual_seed(3)
    attack.risk(net, batch, attack.perturb(net, batch)).mean().backward()
    actual = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]

    net.zero_grad()
    torch.manual_seed(3)
    ball = threat.around(batch.x)
    point = ball.start("uniform")
    for _ in range(3):
        x = ball.finish(point).requires_grad_(True)
        (F.cross_entropy(net(x), batch.y) / 3).backward()
        assert x.grad is not None
        point = ball.project(point + 0.4 * 0.5 * threat.direction(x.grad))
    expected = [parameter.grad for parameter in net.parameters()]
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_single_point_is_the_start(trained: CNN, batch: Batch) -> None:
    attack = FreeLB(threat=L2(eps=0.5), steps=1, start="zero")
    with probing(trained, "eval"):
        expected = F.cross_entropy(trained(batch.x), batch.y, reduction="none")
    torch.testing.assert_close(attack.risk(trained, batch, attack.perturb(trained, batch)), expected)


def test_settings_for_a_single_point_are_rejected() -> None:
    with pytest.raises(ValueError, match="do not apply to the mean over all points of an ascent"):
        FreeLB(threat=L2(eps=0.5), keep="worst")
