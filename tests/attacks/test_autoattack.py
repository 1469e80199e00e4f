"""AutoAttack against the reference implementation, point by point."""

import pyautoattack
import pytest
import torch

from temper.attacks import L1, L2, AutoAttack, Linf, Threat, TorchAttack
from temper.data import DataModule, Loader
from temper.evaluation import attack_all
from temper.models import CNN


@pytest.mark.slow
@pytest.mark.parametrize(("threat", "norm"), [(Linf(eps=0.06), "Linf"), (L2(eps=0.4), "L2")])
def test_it_gives_the_reference_s_verdicts(threat: Threat, norm: str, trained: CNN, digits: DataModule) -> None:
    """The authors' code as `pyautoattack` keeps it up; Square with fewer queries on both sides, the rest in full."""
    x, y = (part[:150] for part in digits.split("test"))
    reference = pyautoattack.AutoAttack(trained, norm=norm, eps=threat.eps, seed=0, version="standard", device="cpu")
    reference.square.n_queries = 500
    _, predicted = reference.run_standard_evaluation(x, y, batch_size=150)
    attack = AutoAttack(threat=threat, n_queries=500)
    ours = attack_all(trained, {"autoattack": attack}, Loader(x, y, batch_size=150), seed=0).worst_case
    assert 0.1 < ours.float().mean() < 0.9
    assert (ours != (predicted == y)).sum() == 0


def test_it_is_made_of_the_official_parts() -> None:
    """As the authors set `standard` up: 100 steps, nine targets, 5,000 queries."""
    parts = AutoAttack(threat=Linf(eps=0.1)).attacks
    assert list(parts) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert [part.steps for part in list(parts.values())[:2]] == [100, 100]
    assert parts["apgd_t"].restarts == 9 and parts["apgd_ce"].restarts == 1
    fab, square = parts["fab_t"], parts["square"]
    assert isinstance(fab, TorchAttack) and isinstance(square, TorchAttack)
    assert fab.options == {"norm": "Linf", "eps": 0.1, "steps": 100, "multi_targeted": True, "n_classes": 10}
    assert square.options["n_queries"] == 5000 and not square.options["resc_schedule"]


@pytest.mark.parametrize("threat", [L1(eps=1), Linf(eps=0.1, lower=-1)])
def test_it_is_defined_for_linf_and_l2_on_images(threat: Threat) -> None:
    with pytest.raises(ValueError, match="defined for linf and l2"):
        AutoAttack(threat=threat)


def test_more_classes_than_ten_have_nine_targets_still() -> None:
    net = CNN(shape=(1, 8, 8), classes=23, mean=[0.3], std=[0.4], width=2, hidden=4).eval()
    x = torch.rand(6, 1, 8, 8)
    loader = Loader(x, net(x).argmax(1), batch_size=6)
    outcomes = attack_all(net, {"aa": AutoAttack(threat=Linf(eps=0.01), steps=5, n_queries=5)}, loader, seed=0)
    assert outcomes.worst_case.shape == (6,)
