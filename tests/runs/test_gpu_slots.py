"""Tests of the number of runs per machine and of their devices."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from temper.config.composed import CONF
from temper.config.errors import ConfigError
from temper.config.resolvers import cores, workers
from temper.runs.gpu_slots import exclusive_device, free_slot

LAUNCHED = ("hydra.sweep.dir=somewhere", "trainer=gpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Simulate a machine with two GPUs up to the point where something runs on them; its lock files are in `tmp_path`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def launcher(*overrides: str) -> Any:
    """Return the launcher's settings for a command line."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=[*LAUNCHED, *overrides], return_hydra_config=True).hydra.launcher


def test_every_holder_has_a_different_slot(tmp_path: Path) -> None:
    with free_slot(tmp_path, "gpu") as first:
        with free_slot(tmp_path, "gpu") as second, free_slot(tmp_path, "gpu") as third:
            assert (first, second, third) == (0, 1, 2)
        with free_slot(tmp_path, "gpu") as again:
            assert again == 1, "a released slot is the lowest free one"


def test_the_cpu_is_shared() -> None:
    with exclusive_device("cpu") as first, exclusive_device("cpu") as second:
        assert first == second == "cpu"


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_runs_are_spread_evenly_over_gpus(accelerator: str, two_gpus: None) -> None:
    with ExitStack() as runs:
        devices = [runs.enter_context(exclusive_device(accelerator)) for _ in range(5)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]


def test_number_of_runs_per_machine(two_gpus: None) -> None:
    assert workers("cpu", 1) == cores()
    assert [workers(accelerator, 3) for accelerator in ("gpu", "cuda", "auto")] == [6, 6, 6]
    assert launcher("runs_per_gpu=3").n_jobs == 6
    assert launcher("runs_per_gpu=3", "hydra.launcher.n_jobs=2").n_jobs == 2


def test_packed_job_runs_as_many_at_a_time_as_share_its_gpu() -> None:
    packed = launcher("hydra/launcher=slurm_packed", "runs_per_gpu=4")
    assert (packed.gpus_per_node, packed.runs_per_job, packed.side_by_side, packed.cpus_per_task) == (1, 16, 4, 4)
    assert launcher("hydra/launcher=slurm_packed").side_by_side == 1


def test_job_of_one_run_cannot_run_several_at_a_time() -> None:
    with pytest.raises(
        InstantiationException, match=r"side_by_side=4.*exceeds hydra.launcher.runs_per_job=1.*hydra/launcher=slurm_packed"
    ):
        instantiate(launcher("hydra/launcher=slurm", "runs_per_gpu=4"))
    assert instantiate(launcher("hydra/launcher=slurm_packed", "runs_per_gpu=4")).side_by_side == 4


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", None])
def test_invalid_number_of_runs_is_rejected(value: Any) -> None:
    for accelerator in ("cpu", "gpu"):
        with pytest.raises(ConfigError, match=f"runs_per_gpu={value}: should be a whole number of at least 1"):
            workers(accelerator, value)


def test_several_runs_per_gpu_are_rejected_on_the_cpu_and_accepted_on_a_login_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=cpu use no GPU.*trainer=gpu"):
        workers("cpu", 2)
    assert workers("gpu", 2) == cores(), "the login node of a cluster"
