"""CPU and GPU give the same verdicts (skipped without a GPU)."""

import copy

import pytest
import torch

from temper.attacks import APGD, L2, PGD, Attack, Linf
from temper.data import DataModule, Loader
from temper.evaluation import attack_all
from temper.models import CNN


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "attack",
    [
        PGD(threat=Linf(eps=0.06), steps=20, start="zero", keep="worst"),
        PGD(threat=L2(eps=0.4), steps=20, start="zero", keep="worst", loss="margin"),
        APGD(threat=Linf(eps=0.06), steps=50, restarts=2),
    ],
)
def test_cpu_and_gpu_agree(attack: Attack, trained: CNN, digits: DataModule) -> None:
    """Up to rounding at the decision boundary, and APGD's starts, which differ between devices."""
    x, y = digits.split("test")
    verdicts = []
    for device in ("cpu", "cuda"):
        net = copy.deepcopy(trained).to(device)
        loader = Loader(x.to(device), y.to(device), batch_size=450)
        verdicts.append(attack_all(net, {"attack": attack}, loader, seed=0).worst_case)
    assert (verdicts[0] != verdicts[1]).sum() <= 2
