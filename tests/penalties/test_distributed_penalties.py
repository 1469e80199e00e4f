"""Tests of penalties in distributed training: two processes end with the same weights and factors."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

TRAINING = """
import sys
import pytorch_lightning as pl
import torch
from temper.training.modules import build_module
from temper.data.loading import build_data
from tests.conftest import composed

small = ["model.width=4", "model.hidden=16", "data.train_size=200", "attack.steps=2", "validation.steps=2"]
config = composed("attack=pgd", *small, *sys.argv[1:])
module, data = build_module(config), build_data(config)


class Compare(pl.Callback):
    def on_fit_end(self, trainer, pl_module):
        scales = [*pl_module.penalties.weights.values(), *pl_module.penalties.factors.values()]
        state = torch.cat([*(p.detach().flatten().double() for p in pl_module.parameters()), torch.tensor(scales).double()])
        both = pl_module.all_gather(state)
        assert torch.isfinite(state).all() and torch.equal(both[0], both[1])
        print("equal")


trainer = pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, use_distributed_sampler=False, inference_mode=False,
    num_sanity_val_steps=0, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    callbacks=[*module.penalties.callbacks(), Compare()],
)
trainer.fit(module, data)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["penalty=[awp,ema,l2]", "penalty.l2.relative=0.1"],
        ["penalty=[l1,l2,meta]"],
        ["penalty=[rotation,jacobian,mixup]"],
        ["penalty=[self_distillation,dropout,controlled]"],
        ["penalty=[sam,batch_norm,swa,adaptive_weight_decay]"],
    ],
    ids=lambda overrides: overrides[0].removeprefix("penalty="),
)
def test_both_processes_end_with_the_same_state(overrides: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, *overrides],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and done.stdout.count("equal") == 2, done.stderr[-2000:]
