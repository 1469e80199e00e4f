"""Measure the cost of batches: CIFAR-10 with random crops and flips, compared with a training step of preact_resnet18.

    python scripts/benchmarks/benchmark_data.py [--device cuda] [data.batch_size=512 trainer.precision=bf16-mixed …]

Random images with the number and shape of CIFAR-10 are stored on the device as bytes; making a batch means to index, cast,
shift and flip them. The script alternates between batches and steps, and prints the median over rounds of the ratio, with the
goal.
"""

import argparse
import statistics
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from measuring import begin, composed, machine, spent

from temper.config.run_config import RunConfig
from temper.data import Batch, Loader
from temper.models import lay_out
from temper.training.modules import build_module, build_penalties

GOAL = 0.03
ROUNDS = 5
BATCHES = 40  # per round, since a single batch is too fast to time


def batches(config: RunConfig, device: torch.device) -> Iterator[Batch]:
    """Yield augmented batches indefinitely, epoch after epoch."""
    penalties = build_penalties(config)
    x = torch.randint(256, (50_000, *config.data.shape), dtype=torch.uint8, device=device)
    loader = Loader(x, torch.arange(len(x), device=device) % config.data.classes, batch_size=config.data.batch_size, seed=0)
    while True:
        yield from map(penalties.transform, loader)
        loader.set_epoch(loader.epoch + 1)


def main() -> None:
    """Print the time of a batch, of a training step, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("overrides", nargs="*", help="overrides of the config")
    arguments = parser.parse_args()
    begin()
    device = torch.device(arguments.device)
    config = composed("data=cifar10", "model=preact_resnet18", "penalty=crop_flip", *arguments.overrides)
    module, source = build_module(config).to(device).train(), batches(config, device)
    lay_out(module.net, config.model.channels_last, device)
    optimizer = module.optimizer(module.net.parameters())
    half = str(config.trainer.precision) == "bf16-mixed"

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(module.net(batch.x).float(), batch.target)
        loss.backward()
        optimizer.step()

    batch = next(source)
    step(batch)  # warm-up
    steps = 1 if device.type == "cpu" else BATCHES
    rounds = []
    for _ in range(ROUNDS):
        times = [spent(device)]
        for _ in range(BATCHES):
            batch = next(source)
        times.append(spent(device))
        for _ in range(steps):
            step(batch)
        times.append(spent(device))
        rounds.append(((times[1] - times[0]) / BATCHES, (times[2] - times[1]) / steps))
    ratio = statistics.median(made / trained for made, trained in rounds)
    made, trained = (1e3 * statistics.median(side) for side in zip(*rounds, strict=True))
    print(f"{machine(device)}; {ROUNDS} rounds")
    print(f"a batch of {len(batch)}: {made:.2f} ms; a training step on it: {trained:.1f} ms")
    print(f"ratio {100 * ratio:.2f} %   goal <= {100 * GOAL:g} %: {'met' if ratio <= GOAL else 'missed'}")


if __name__ == "__main__":
    main()
