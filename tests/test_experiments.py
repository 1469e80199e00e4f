"""Tests of the paper experiments: every cell is valid and has the paper's settings; at a small scale each runs end to end."""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from temper.config.composed import CONF
from temper.config.run_config import RunConfig, parse
from temper.data import Arrays
from temper.runs.record import collect
from temper.sweeps.composing import Composer
from temper.sweeps.sweep import combinations, plan
from temper.training.modules import build_penalties
from tests.conftest import real_data

Temper = Callable[..., tuple[int, str]]

CELLS = {
    "madry2018_mnist": 2,
    "madry2018_mnist_cpu": 2,
    "wong2020_fast": 2,
    "rice2020_overfitting": 6,
    "zhang2019_trades": 1,
    "wu2020_awp": 2,
    "pang2021_tricks": 12,
    "galloway2018_weight_decay": 15,
    "factorial": 32,
    "factorial_digits": 32,
    "fashion": 10,
}
COMMAND = re.compile(r"^#   temper-train ((?:.*\\\n)*.*)", re.MULTILINE)


class Speckles:
    """Source of random pixels with the shape of a named data set, or of digits, which have no name."""

    def __init__(self, *, name: str = "", root: str = "", download: bool = False) -> None:
        self.shape = (3, 32, 32) if name.startswith("CIFAR") else (1, 28, 28) if name else (1, 8, 8)

    def load(self) -> Arrays:
        y = torch.arange(1000) % 10
        x = torch.randint(256, (1000, *self.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Arrays(x, y, x[:100], y[:100])


@contextmanager
def grid(experiment: str, *overrides: str) -> Iterator[tuple[DictConfig, ConfigLoader, list[list[str]]]]:
    """Yield the sweep of an experiment with further overrides: its config, its loader, and the overrides of each run."""
    with initialize_config_dir(CONF, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = compose("train", overrides=[f"experiment={experiment}"], return_hydra_config=True)
        axes = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
        yield config, loader, combinations(loader, [f"experiment={experiment}", *axes, *overrides])


@cache
def cells(experiment: str, *overrides: str) -> list[RunConfig]:
    """Return the config of each cell of an experiment's grid."""
    with grid(experiment, *overrides) as (config, loader, runs):
        return [parse(cell) for cell, _ in Composer(config, loader).cells(runs)]


def commands() -> list[tuple[str, tuple[str, ...]]]:
    """Return the commands in the experiments' files, as experiment and further overrides."""
    parsed = []
    for name in CELLS:
        for command in COMMAND.findall((Path(CONF) / "experiment" / f"{name}.yaml").read_text()):
            first, *others = shlex.split(command.replace("\\\n#", " "))
            assert first == f"experiment={name}"
            parsed.append((name, tuple(others)))
    return parsed


def test_every_paper_experiment_is_tested() -> None:
    texts = {path.stem: path.read_text() for path in (Path(CONF) / "experiment").glob("*.yaml")}
    assert {name for name, text in texts.items() if "/evaluation: paper" in text} <= set(CELLS) <= set(texts)


@pytest.mark.parametrize(
    ("experiment", "others"), commands(), ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_every_cell_is_valid(experiment: str, others: tuple[str, ...]) -> None:
    small = (
        "trainer.accelerator=cpu",
        "data.source._target_=tests.test_experiments.Speckles",
        "data.val_fraction=0.1",
        "model.width=1",
        "evaluation.attacks.pgd.steps=40",
        "evaluation.attacks.pgd.restarts=1",
    )
    with grid(experiment, *others, *small) as (config, loader, runs):
        jobs, warnings = plan(config, loader, runs)
    assert not warnings
    assert len({job.cell for job in jobs}) == CELLS[experiment] or (others and jobs)


def paper_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings of a cell that papers state."""
    attack = config.attack.build()
    schedule, pgd = config.schedule.build(), config.evaluation.attacks["pgd"].build()
    epochs, lr = config.trainer.max_epochs, config.optimizer.lr
    return {
        "data": config.data.source.name,
        "model": config.model.target.rpartition(".")[2],
        "width": config.model.width,
        "eps": config.data.threats["linf"].eps,
        "attack": config.attack.name,
        "steps": attack.steps,
        "step_size": attack.step_size,
        "mode": attack.mode,
        "start": attack.start,
        "batch": config.data.batch_size,
        "epochs": epochs,
        "momentum": config.optimizer.get("momentum"),
        "nesterov": config.optimizer.get("nesterov"),
        "lr": [lr * schedule(epoch / epochs) for epoch in range(epochs)],
        "decay": config.penalties["sgd_decay"].weight if "sgd_decay" in config.penalties else None,
        "pgd": (pgd.steps, pgd.step_size, pgd.restarts),
    }


def settings_of(experiment: str, attack: str) -> dict[str, Any]:
    """Return the paper settings of the first cell of an attack."""
    with grid(experiment) as (config, loader, runs):
        composed = (parse(cell) for cell, _ in Composer(config, loader).cells(runs))
        return paper_settings(next(cell for cell in composed if cell.attack.name == attack))


CIFAR = {"data": "CIFAR10", "eps": 8 / 255, "batch": 128, "momentum": 0.9, "nesterov": False}
R18 = {"model": "PreActResNet18", "width": 64}
WRN = {"model": "WideResNet", "width": 10}
PGD10 = {"attack": "pgd", "steps": 10, "step_size": 2 / 255, "start": "uniform"}


@pytest.mark.parametrize(
    ("experiment", "attack", "expected"),
    [
        (
            "madry2018_mnist",
            "pgd",
            {"data": "MNIST", "eps": 0.3, "steps": 40, "step_size": 0.01, "batch": 50, "lr": [1e-4] * 93, "start": "uniform"},
        ),
        ("wong2020_fast", "fgsm_rs", CIFAR | R18 | {"steps": 1, "epochs": 30, "decay": 5e-4, "pgd": (50, 2 / 255, 10)}),
        ("rice2020_overfitting", "pgd", CIFAR | R18 | PGD10 | {"mode": "train", "epochs": 200, "decay": 5e-4}),
        (
            "zhang2019_trades",
            "trades",
            CIFAR
            | WRN
            | {"eps": 0.031, "steps": 10, "step_size": 0.007, "start": "gaussian", "decay": 2e-4, "pgd": (20, 0.003, 1)},
        ),
        ("wu2020_awp", "pgd", CIFAR | R18 | PGD10 | {"mode": "train", "epochs": 200, "decay": 5e-4, "pgd": (20, 2 / 255, 1)}),
        ("pang2021_tricks", "pgd", CIFAR | R18 | PGD10 | {"mode": "eval", "epochs": 110, "pgd": (10, 2 / 255, 1)}),
        (
            "galloway2018_weight_decay",
            "pgd",
            CIFAR | {"momentum": None, "nesterov": None, "steps": 7, "step_size": 2 / 255},
        ),
        ("factorial", "pgd", CIFAR | R18 | PGD10 | {"mode": "eval", "epochs": 100, "pgd": (50, 2 / 255, 1)}),
    ],
)
def test_settings_equal_the_paper(experiment: str, attack: str, expected: dict[str, Any]) -> None:
    settings = settings_of(experiment, attack)
    assert {key: settings[key] for key in expected} == expected


def test_learning_rates_equal_the_paper() -> None:
    def at(experiment: str, attack: str, *epochs: int) -> list[float]:
        rates = settings_of(experiment, attack)["lr"]
        return pytest.approx([rates[epoch] for epoch in epochs])  # type: ignore[return-value]

    assert at("rice2020_overfitting", "pgd", 0, 99, 100, 149, 150, 199) == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert at("wu2020_awp", "pgd", 0, 99, 100, 149, 150, 199) == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert at("pang2021_tricks", "pgd", 0, 99, 100, 104, 105, 109) == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert at("zhang2019_trades", "trades", 0, 73, 74, 75) == [0.1, 0.1, 0.01, 0.01], "the paper counts epochs from 1"
    assert at("wong2020_fast", "fgsm_rs", 0, 15, 30 - 3) == [0, 0.2, 0.04], "up for the first half, down for the second"


def test_penalties_are_those_of_the_paper() -> None:
    def penalties(experiment: str) -> dict[tuple[str, ...], dict[str, Any]]:
        return {tuple(sorted(cell.penalty)): dict(build_penalties(cell)) for cell in cells(experiment)}

    rice = penalties("rice2020_overfitting")
    plain = ("crop_flip", "sgd_decay")
    assert set(rice) == {
        plain,
        ("crop_flip", "early_stopping", "sgd_decay"),
        ("crop_flip", "l1", "sgd_decay"),
        ("crop_flip", "l2"),
        ("crop_flip", "cutout", "sgd_decay"),
        ("crop_flip", "mixup", "sgd_decay"),
    }, "every arm has weight decay, except l2, which replaces it"
    assert rice["crop_flip", "cutout", "sgd_decay"]["cutout"].share * 32 == 14
    assert rice["crop_flip", "mixup", "sgd_decay"]["mixup"].alpha == 1.4
    assert (rice[plain]["crop_flip"].padding * 32, rice[plain]["crop_flip"].flip) == (4, 0.5)
    weights = {
        name: node.weight for cell in cells("rice2020_overfitting") for name, node in cell.penalties.items() if "weight" in node
    }
    assert weights == {"sgd_decay": 5e-4, "l1": 5e-6, "l2": 5e-4}
    assert penalties("wu2020_awp")["awp", "crop_flip", "sgd_decay"]["awp"].gamma == 0.01
    (trades,) = cells("zhang2019_trades")
    assert trades.attack.beta == 6
    assert {cell.penalties["sgd_decay"].weight for cell in cells("pang2021_tricks")} == {1e-4, 2e-4, 5e-4}
    factors = {name for cell in penalties("factorial") for name in cell} - {"crop_flip"}
    assert factors == {"dropout", "sgd_decay", "label_smoothing", "ema"} and len(penalties("factorial")) == 2 ** len(factors)
    assert penalties("factorial")["crop_flip", "ema"]["ema"].decay == 0.9995


@pytest.mark.parametrize("experiment", [name for name in CELLS if name != "fashion"])
def test_autoattack_is_in_every_cell(experiment: str) -> None:
    for cell in cells(experiment):
        attack = cell.evaluation.attacks["autoattack"]
        assert (attack.target, attack.steps, attack.n_queries) == ("temper.attacks.AutoAttack", 100, 5000)


def test_scale_overrides_the_experiment_and_the_command_line_overrides_both() -> None:
    (full,), (small,) = cells("zhang2019_trades"), cells("zhang2019_trades", "scale=small")
    assert (full.trainer.max_epochs, small.trainer.max_epochs) == (76, 2)
    assert small.data.threats["linf"].eps == full.data.threats["linf"].eps == 0.031, "other settings stay"
    assert (small.paths.outputs, full.paths.outputs) == ("outputs/scale_small", "outputs")
    (longer,) = cells("zhang2019_trades", "scale=small", "trainer.max_epochs=3", "data.train_size=64")
    assert (longer.trainer.max_epochs, longer.data.train_size, longer.data.test_size) == (3, 64, small.data.test_size)


# Papers whose numbers the report of an experiment shows.
PUBLISHED = {
    "madry2018_mnist": "Madry et al. 2018",
    "madry2018_mnist_cpu": "Madry et al. 2018",
    "wong2020_fast": "Wong et al. 2020",
    "rice2020_overfitting": "Rice et al. 2020",
    "zhang2019_trades": "Pang et al. 2021",
    "wu2020_awp": "Wu et al. 2020",
    "factorial": "FastAT 2026",
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.real_data
@pytest.mark.parametrize("experiment", CELLS)
def test_experiments_run_end_to_end_at_a_small_scale(experiment: str, temper: Temper) -> None:
    study = cells(experiment)[0].study
    status, output = temper("train", f"experiment={experiment}", "scale=small", f"paths.data={real_data()}")
    assert status == 0, output
    records, problems = collect(Path("outputs/scale_small") / study)
    assert len(records) == CELLS[experiment] and not problems
    for record in records:
        assert record.finished and not record.error
        (evaluation,) = record.evaluations.values()
        metrics = evaluation["checkpoints"]["last"]["metrics"]
        assert 0 <= metrics["test/autoattack"] <= metrics["test/clean"] <= 1
    published = [line for line in Path("results/scale_small", study, "table.md").read_text().splitlines() if "↳" in line]
    assert (PUBLISHED[experiment] in "".join(published)) if experiment in PUBLISHED else not published
