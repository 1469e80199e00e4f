"""Compare the speed and success of PGD-10 with other libraries.

    python scripts/benchmarks/benchmark_attacks.py [--device cuda] [--quick]

PGD-10 is measured as the inner loop of training; benchmark_autoattack.py measures AutoAttack. All libraries get the same
network, examples, eps, step size and precision. Rounds alternate within one process, so that other load slows all. The
parameters of the networks require gradients as in training, and each library is called in the fastest way that it documents.
"""

import argparse
import copy
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from types import ModuleType
from typing import TypeVar

import foolbox
import numpy as np
import torch
import torch.nn.functional as F
import torchattacks
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from measuring import begin, machine, outcome
from rich.table import Table
from torch import Tensor, nn

from temper.attacks import PGD, Attack, Linf, NoAttack, Threat
from temper.attacks.gradient_step import take_step
from temper.data import Batch, DataModule, Digits
from temper.models import CNN, Compiler, Network, PreActResNet18, lay_out
from temper.runs.terminal import say

STEPS = 10
BATCH_SIZE = 128
STARTS = 5  # random starts over which the success is averaged
DIGITS_LINF = Linf(eps=2 / 16)
COLOR_LINF = Linf(eps=8 / 255)
SUCCESS_TOLERANCE = 0.5  # percentage points
PACKAGES = ("torchattacks", "foolbox", "adversarial-robustness-toolbox", "adv-lib")

Perturb = Callable[[Tensor, Tensor], Tensor]
Result = TypeVar("Result")


@dataclass
class Contender:
    """One implementation of PGD-10, and its measurements.

    Attributes:
        perturb: function from inputs (B, ...) and labels (B,) to adversarial examples (B, ...).
        net: the network that it uses; None: the shared one.
        compiled: whether the network is compiled, so that its passes cannot be counted.
        seconds: time for one batch, in each round.
        passes: forward and backward passes of the network for one batch; None: not counted.
        success: % of the correctly classified test examples that it fools; None: not measured.
    """

    perturb: Perturb
    net: Network | None = None
    compiled: bool = False
    seconds: list[float] = field(default_factory=list)
    passes: tuple[int, int] | None = None
    success: float | None = None


OURS, COMPILED, GRAPHS = "temper", "temper, model.compile=true", "temper, model.compile=cuda_graphs"
FLOOR = f"floor: {STEPS} bare passes"


def contenders(net: Network, shape: Sequence[int], threat: Threat, channels_last: bool | None) -> dict[str, Contender]:
    """Return PGD-10 of every library with the same threat and step size, and the bare passes as a lower limit.

    Args:
        net: the network to attack.
        shape: shape of an input.
        threat: the perturbation set.
        channels_last: memory layout that temper uses for the network, as its config says; None: on a GPU only.
    """
    device = next(net.parameters()).device
    step_size = 2.5 * threat.eps / STEPS
    # adv-lib imports visdom for plots, which are not needed here.
    sys.modules.setdefault("visdom", ModuleType("visdom"))
    from adv_lib.attacks import pgd_linf as adv_lib_pgd

    ours = PGD(threat=threat, steps=STEPS, step_size=step_size, start="uniform")
    own = copy.deepcopy(net)
    lay_out(own, channels_last, device)
    versions = {OURS: Contender(partial(_perturb, ours, own), net=own)}
    for name, compiler in compilers(device).items():
        fast_net, fast = copy.deepcopy(own), copy.deepcopy(ours)
        compiler.compile_network(fast_net)
        fast.set_step(compiler.compile_function(take_step))
        versions[name] = Contender(partial(_perturb, fast, fast_net), compiled=True)
    theirs = torchattacks.PGD(net, eps=threat.eps, alpha=step_size, steps=STEPS, random_start=True)
    bounded = foolbox.PyTorchModel(net, bounds=(threat.lower, threat.upper), device=device)
    descent = foolbox.attacks.LinfProjectedGradientDescentAttack(
        rel_stepsize=step_size / threat.eps, abs_stepsize=step_size, steps=STEPS, random_start=True
    )
    classifier = PyTorchClassifier(
        model=net,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(shape),
        nb_classes=10,
        clip_values=(threat.lower, threat.upper),
        device_type="gpu" if device.type == "cuda" else "cpu",
    )
    toolbox = ProjectedGradientDescentPyTorch(
        classifier,
        norm="inf",
        eps=threat.eps,
        eps_step=step_size,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=BATCH_SIZE,
        verbose=False,
    )

    def bare(x: Tensor, y: Tensor) -> Tensor:
        for _ in range(STEPS):
            z = x.detach().requires_grad_(True)
            torch.autograd.grad(F.cross_entropy(net(z), y, reduction="sum"), z)
        return x

    return {
        **versions,
        "torchattacks": Contender(theirs),
        # `run` skips the success check that calling the attack adds.
        "foolbox": Contender(lambda x, y: descent.run(bounded, x, foolbox.Misclassification(y), epsilon=threat.eps)),
        # ART accepts and returns numpy arrays only.
        "ART": Contender(lambda x, y: torch.from_numpy(toolbox.generate(x.cpu().numpy(), y.cpu().numpy())).to(device)),
        "adv-lib": Contender(lambda x, y: adv_lib_pgd(net, x, y, threat.eps, steps=STEPS, absolute_step_size=step_size)),
        FLOOR: Contender(bare),
    }


def _perturb(attack: PGD, net: Network, x: Tensor, y: Tensor) -> Tensor:
    return attack.perturb(net, Batch.of(x, y))


def compilers(device: torch.device) -> dict[str, Compiler]:
    """Return the options of `model.compile` on a device."""
    return {COMPILED: Compiler()} | ({GRAPHS: Compiler(cuda_graphs=True)} if device.type == "cuda" else {})


def passes(net: nn.Module, run: Callable[[], object]) -> tuple[int, int]:
    """Return the number of forward and backward passes of the network during `run`."""
    seen: Counter[str] = Counter()

    def forward(*_: object) -> None:
        seen["forward"] += 1

    def backward(*_: object) -> None:
        seen["backward"] += 1

    hooks = [net.register_forward_hook(forward), net.register_full_backward_pre_hook(backward)]
    run()
    for hook in hooks:
        hook.remove()
    return seen["forward"], seen["backward"]


def timed(run: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """Return the wall-clock seconds of `run`, including the work of the device, and its value."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    since = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - since, result


def race(net: Network, batch: Batch, threat: Threat, *, rounds: int, channels_last: bool | None = None) -> dict[str, Contender]:
    """Count the passes of all contenders on one batch, which is also the warm-up, and time them in each round."""
    measured = contenders(net, batch.x.shape[1:], threat, channels_last)
    order = list(measured.values())
    for contender in order:
        seen = passes(contender.net or net, partial(contender.perturb, batch.x, batch.y))
        contender.passes = None if contender.compiled else seen
    for _ in range(rounds):
        for contender in order:
            took, _ = timed(partial(contender.perturb, batch.x, batch.y), batch.x.device)
            contender.seconds.append(took)
        order = order[1:] + order[:1]  # no contender always follows the same one
    return measured


def success(net: Network, perturb: Perturb, batch: Batch) -> float:
    """Return the % of correctly classified examples that the attack fools, averaged over random starts."""
    with torch.no_grad():
        correct = net(batch.x).argmax(1) == batch.y
    rates = []
    for seed in range(STARTS):
        torch.manual_seed(seed)
        np.random.seed(seed)
        x_adv = perturb(batch.x, batch.y)
        with torch.no_grad():
            rates.append((net(x_adv).argmax(1) != batch.y)[correct].float().mean().item())
    return 100 * statistics.mean(rates)


def slowdown(contender: Contender, ours: Contender) -> list[float]:
    """Return the quartiles over rounds of the ratio of two contenders' times."""
    return statistics.quantiles(theirs / own for theirs, own in zip(contender.seconds, ours.seconds, strict=True))


def judge_pgd(title: str, measured: dict[str, Contender], device: torch.device) -> str:
    """Return a line on the goal: as fast as the fastest other library (on a GPU twice as fast), and as successful."""
    ours = min((name for name in measured if name.startswith(OURS)), key=lambda name: statistics.median(measured[name].seconds))
    others = {name: contender for name, contender in measured.items() if not name.startswith(OURS) and name != FLOOR}
    fastest = min(others, key=lambda name: slowdown(others[name], measured[ours])[1])
    low, ratio, high = slowdown(others[fastest], measured[ours])
    goal = 2 if device.type == "cuda" else 1
    met = ratio >= goal
    text = (
        f"{title}: {ours} is {ratio:.3f} times as fast as {fastest}, the fastest other "
        f"(interquartile range {low:.2f} to {high:.2f}; goal {goal})"
    )
    rates = [contender.success for contender in others.values() if contender.success is not None]
    own = measured[ours].success
    if own is not None and rates:
        met &= own >= max(rates) - SUCCESS_TOLERANCE
        text += f", success {own - max(rates):+.2f} points relative to the best other"
    return f"{text}: {outcome(met)}"


def digits() -> DataModule:
    """Return the digits data set of conf/data/digits.yaml."""
    data = DataModule(source=Digits(), shape=(1, 8, 8), classes=10, batch_size=64, val_fraction=0.25)
    data.setup()
    return data


def trained(data: DataModule, attack: Attack, device: torch.device, *, epochs: int) -> Network:
    """Return the CNN of conf/model/cnn.yaml, trained against an attack."""
    torch.manual_seed(0)
    net = CNN(shape=data.shape, classes=10, mean=[0.305], std=[0.376]).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    loader = data.loader("train", batch_size=64, device=device, seed=0)
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            attack.risk(net, batch, attack.perturb(net, batch)).mean().backward()
            optimizer.step()
    optimizer.zero_grad()
    return net.eval()


def color_batch(size: int, device: torch.device) -> tuple[Network, Batch]:
    """Return a PreActResNet18 with random weights, and random inputs."""
    torch.manual_seed(0)
    net = PreActResNet18(shape=(3, 32, 32), classes=10, mean=[0.5] * 3, std=[0.25] * 3).to(device).eval()
    return net, Batch.of(torch.rand(size, 3, 32, 32, device=device), torch.randint(10, (size,), device=device))


def pgd_table(standard: Network, data: DataModule, device: torch.device, *, quick: bool) -> tuple[Table, list[str]]:
    """Return a table of all libraries on both networks, and lines about the goal."""
    first = next(iter(data.loader("test", batch_size=BATCH_SIZE, device=device)))
    small = race(standard, first, DIGITS_LINF, rounds=30 if quick else 100)
    split = data.split("test")
    whole = Batch.of(split.x.to(device), split.y.to(device))
    for name, contender in small.items():
        if name != FLOOR:
            contender.success = success(standard, contender.perturb, whole)
    runs = {f"CNN on digits, batch of {len(first)}": small}
    if device.type == "cuda" or not quick:
        size, rounds = (BATCH_SIZE, 20) if device.type == "cuda" else (4, 12)
        net, batch = color_batch(size, device)
        runs[f"PreActResNet18, batch of {size}"] = race(net, batch, COLOR_LINF, rounds=rounds, channels_last=True)
    table = Table(title=f"PGD-{STEPS}, linf, uniform start, cross-entropy, float32")
    for heading in ("network", "library", "ms per batch", "relative to temper", "forward + backward", "success %"):
        table.add_column(heading, justify="left" if heading in ("network", "library") else "right")
    for title, measured in runs.items():
        for name, contender in measured.items():
            table.add_row(
                title if name == OURS else "",
                name,
                f"{1e3 * statistics.median(contender.seconds):.2f}",
                f"{slowdown(contender, measured[OURS])[1]:.2f}",
                "" if contender.passes is None else " + ".join(map(str, contender.passes)),
                "" if contender.success is None else f"{contender.success:.2f}",
            )
        table.add_section()
    return table, [judge_pgd(title, measured, device) for title, measured in runs.items()]


def main() -> None:
    """Measure all libraries and print a table and the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; no ResNet on a CPU")
    arguments = parser.parse_args()
    begin()
    device, quick = torch.device(arguments.device), arguments.quick
    data = digits()
    standard = trained(data, NoAttack(), device, epochs=20)
    say(f"{machine(device)}, " + ", ".join(f"{package} {version(package)}" for package in PACKAGES))
    table, lines = pgd_table(standard, data, device, quick=quick)
    say(table)
    for line in lines:
        say(line)


if __name__ == "__main__":
    main()
