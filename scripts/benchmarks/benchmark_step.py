"""Measure the overhead of Hydra and Lightning: a training step of each kind compared with the same step in plain PyTorch.

    python scripts/benchmarks/benchmark_step.py [model=cnn data.batch_size=128 …]

Both sides train the same network on the same batches with the same attack and optimizer. Rounds alternate within one process,
so that other load slows both. The script prints the median over rounds of the ratio.
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import chain, islice, repeat

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from measuring import begin, composed, machine, trainer_of

from temper.config.run_config import RunConfig
from temper.data.loading import build_data
from temper.training.modules import Classifier, build_module

KINDS = {
    "standard": ("attack=none", "penalty=none", 1.15),
    "regularized": ("attack=none", "penalty=l2", 1.15),
    "adversarial": ("attack=pgd", "penalty=none", 1.05),
    "combined": ("attack=pgd", "penalty=l2", 1.05),
}
STEPS, ROUNDS = 40, 15


class Clock(pl.Callback):
    """Callback that measures the time of all steps except the first five, which are a warm-up."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        if trainer.global_step == 5:
            self.since = time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "since", 0.0)


def lightning(config: RunConfig) -> Callable[[], float]:
    """Return a function that measures seconds per step of temper: callbacks, penalties, keyed randomness, epoch logging."""

    def steps() -> float:
        module, data, clock = build_module(config), build_data(config), Clock()
        trainer_of(config, module, clock, max_steps=STEPS + 5, limit_val_batches=0).fit(module, data)
        return clock.seconds / STEPS

    return steps


def plain(config: RunConfig) -> Callable[[], float]:
    """Return a function that measures seconds per step of a plain PyTorch loop."""

    def steps() -> float:
        module: Classifier = build_module(config)
        net, attack, weight = module.net, module.attack, module.penalties.weights.get("l2")
        optimizer = module.optimizer(net.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: module.schedule(step / (STEPS + 5)))
        loader = build_data(config).loader("train", batch_size=config.data.batch_size, seed=0)
        net.train()
        since = 0.0
        for step, batch in enumerate(islice(chain.from_iterable(repeat(loader)), STEPS + 5)):
            if step == 5:
                since = time.perf_counter()
            x = batch.x if config.attack.name == "none" else attack.perturb(net, batch)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), batch.y)
            if weight is not None:
                decayed = [parameter for parameter in net.parameters() if parameter.ndim > 1]
                loss = loss + weight / 2 * torch.stack([w.square().sum() for w in decayed]).sum()
            loss.backward()
            optimizer.step()
            schedule.step()
        return (time.perf_counter() - since) / STEPS

    return steps


def main() -> None:
    """Print the ratio of temper to a plain loop for each kind of training."""
    begin()
    print(f"{machine(torch.device('cpu'))}; {ROUNDS} rounds of {STEPS} steps")
    print(f"{'kind':12s} {'plain ms':>9s} {'temper ms':>10s} {'ratio':>6s}   goal")
    for kind, (attack, penalty, goal) in KINDS.items():
        overrides = ["data.batch_size=128", attack, penalty, "trainer.max_epochs=1000000", *sys.argv[1:]]
        config = composed(*overrides)
        sides = plain(config), lightning(config)
        rounds = [tuple(side() for side in sides) for _ in range(ROUNDS)]
        ratio = statistics.median(ours / bare for bare, ours in rounds)
        bare, ours = (1e3 * statistics.median(side) for side in zip(*rounds, strict=True))
        print(f"{kind:12s} {bare:9.2f} {ours:10.2f} {ratio:6.3f}   <= {goal} {'met' if ratio <= goal else 'missed'}")


if __name__ == "__main__":
    main()
