"""Shared fixtures and helpers: composed configs, real digits, small networks."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings
from omegaconf import DictConfig
from torch import Tensor, nn

from temper.config.composed import CONF
from temper.config.resolvers import register_resolvers
from temper.config.run_config import RunConfig, parse
from temper.data import Batch, DataModule, Digits
from temper.models import CNN, Network
from temper.training.classifier import Classifier

REPOSITORY = Path(__file__).parents[1]
FILES = REPOSITORY / "tests" / "files"

register_resolvers()
torch.set_num_threads(1)
# Examples are derandomized, so that failures repeat. Hypothesis also draws constants of the modules imported so far, so a test
# that runs alone may see other examples. `--hypothesis-profile=explore` draws new ones. No deadline, since machines differ.
settings.register_profile("explore", deadline=None)
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.load_profile("repeat")


@pytest.fixture(autouse=True)
def _no_hydra_left() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Restore the handler of SIGINT, which Lightning ignores permanently once a fit was interrupted."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def raw_config(*overrides: str, name: str = "train") -> DictConfig:
    """Return the config of a command line as Hydra composes it."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(name, overrides=list(overrides))


def composed(*overrides: str) -> RunConfig:
    """Return the parsed config of a command line."""
    return parse(raw_config(*overrides))


def alive(*selection: str) -> bool:
    """Return True if `ps` selects a running process by these options; zombies, which containers may keep, do not count."""
    processes = subprocess.run(["ps", "-o", "stat=", *selection], capture_output=True, text=True)
    return any(not state.startswith("Z") for state in processes.stdout.split())


@pytest.fixture
def _outside_of_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "current_epoch", 0)
    monkeypatch.setattr(Classifier, "global_rank", 0)
    monkeypatch.setattr(Classifier, "global_step", 2)
    monkeypatch.setattr(Classifier, "total_steps", 3)


@pytest.fixture(scope="session")
def digits() -> DataModule:
    data = DataModule(source=Digits(), shape=(1, 8, 8), classes=10, batch_size=64, val_fraction=0.25)
    data.setup()
    return data


@pytest.fixture
def batch(digits: DataModule) -> Batch:
    x, y = digits.split("train")
    return Batch.of(x[:32], y[:32])


def small_net(seed: int = 0) -> CNN:
    torch.manual_seed(seed)
    return CNN(shape=(1, 8, 8), classes=10, mean=[0.3], std=[0.4], width=4, hidden=16)


@pytest.fixture(scope="session")
def trained(digits: DataModule) -> CNN:
    """Return a network that classifies digits well, so that attacks can change its predictions."""
    net = small_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    x, y = digits.split("train")
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


class Linear(Network):
    """Linear network with logits (0, w·x + b), for which the optimum of every attack has a closed form."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.tensor(bias))

    def logits(self, z: Tensor) -> Tensor:
        score = (z.flatten(1) * self.weight.flatten()).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def temper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command in this process and an empty folder, and returns its exit status and output.

    Call it as `temper("train", "attack=pgd", …)`. Runs of a sweep are sequential (`hydra/launcher=basic`); other launchers are
    tested in separate processes.
    """
    from temper.cli.dashboard import main as dashboard
    from temper.cli.evaluate import main as evaluate
    from temper.cli.report import main as report
    from temper.cli.status import main as status
    from temper.cli.train import main as train

    commands = {"train": train, "evaluate": evaluate, "report": report, "status": status, "dashboard": dashboard}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def run(command: str, *arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        launcher = ["hydra/launcher=basic"] if command == "train" else []
        # Hydra requires consecutive overrides, so -m comes first.
        monkeypatch.setattr(sys, "argv", [f"temper-{command}", *sorted([*launcher, *arguments], key=lambda a: a != "-m")])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        code, message = 0, ""
        try:
            commands[command]()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
            message = ended.code if isinstance(ended.code, str) else ""
        finally:
            GlobalHydra.instance().clear()
        captured = capfd.readouterr()
        return code, captured.out + captured.err + message

    return run


# Runs of seconds, since most tests do not depend on how well a run learns.
QUICK = (
    "trainer.max_epochs=2",
    "evaluation=quick",
    "data.train_size=200",
    "data.test_size=60",
    "model.width=4",
    "model.hidden=16",
)
# The same for a tabular and a text data set.
QUICK_TABLE = ("data=breast_cancer", "data.class_weights=balanced", "model=mlp", "model.hidden=[16]", *QUICK[:4])
QUICK_TEXTS = (
    "data=csv_text",
    f"paths.data={FILES}",
    "data.source.path=reviews.csv",
    "data.length=10",
    "data.val_fraction=0.2",
    "model=text_cnn",
    "model.dim=8",
    "model.filters=8",
    *QUICK[:2],
    "evaluation.norm=l2",
)


def real_data() -> str:
    folder = os.environ.get("TEMPER_DATA")
    if not folder:
        pytest.skip("TEMPER_DATA is not set (folder with MNIST, Fashion-MNIST and CIFAR-10)")
    return folder


def real_tables() -> str:
    folder = os.environ.get("TEMPER_TABLES")
    if not folder:
        pytest.skip("TEMPER_TABLES is not set (folder with the samples of card payments and network traffic)")
    return folder


def real_texts() -> str:
    folder = os.environ.get("TEMPER_TEXTS")
    if not folder:
        pytest.skip("TEMPER_TEXTS is not set (folder with SST-2 and the SMS spam collection)")
    return folder
