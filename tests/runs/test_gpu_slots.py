"""How many runs share a machine, and which device each is given."""

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
    """A machine with two GPUs, as far as is asked before anything runs on them; its locks lie in a folder of their own."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def launcher(*overrides: str) -> Any:
    """The launcher's settings that a command line would give."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=[*LAUNCHED, *overrides], return_hydra_config=True).hydra.launcher


def test_every_holder_has_a_slot_of_its_own(tmp_path: Path) -> None:
    with free_slot(tmp_path, "gpu") as first:
        with free_slot(tmp_path, "gpu") as second, free_slot(tmp_path, "gpu") as third:
            assert (first, second, third) == (0, 1, 2)
        with free_slot(tmp_path, "gpu") as again:
            assert again == 1, "what was given back is the first that nobody holds"


def test_the_cpu_is_not_claimed() -> None:
    with exclusive_device("cpu") as one, exclusive_device("cpu") as other:
        assert one == other == "cpu"


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_runs_are_spread_evenly_over_gpus(accelerator: str, two_gpus: None) -> None:
    with ExitStack() as runs:
        given = [runs.enter_context(exclusive_device(accelerator)) for _ in range(5)]
    assert given == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]


def test_how_many_runs_a_machine_takes(two_gpus: None) -> None:
    assert workers("cpu", 1) == cores()
    assert [workers(accelerator, 3) for accelerator in ("gpu", "cuda", "auto")] == [6, 6, 6]
    assert launcher("runs_per_gpu=3").n_jobs == 6
    assert launcher("runs_per_gpu=3", "hydra.launcher.n_jobs=2").n_jobs == 2


def test_a_packed_job_runs_as_many_at_a_time_as_share_its_gpu() -> None:
    packed = launcher("hydra/launcher=slurm_packed", "runs_per_gpu=4")
    assert (packed.gpus_per_node, packed.runs_per_job, packed.side_by_side, packed.cpus_per_task) == (1, 16, 4, 4)
    assert launcher("hydra/launcher=slurm_packed").side_by_side == 1


def test_a_job_of_one_run_cannot_run_several_at_a_time() -> None:
    with pytest.raises(InstantiationException, match=r"side_by_side=4.*a job has 1 runs.*hydra/launcher=slurm_packed"):
        instantiate(launcher("hydra/launcher=slurm", "runs_per_gpu=4"))
    assert instantiate(launcher("hydra/launcher=slurm_packed", "runs_per_gpu=4")).side_by_side == 4


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", None])
def test_what_is_no_number_of_runs_is_refused(value: Any) -> None:
    for accelerator in ("cpu", "gpu"):
        with pytest.raises(ConfigError, match=f"runs_per_gpu={value}: should be a whole number of at least 1"):
            workers(accelerator, value)


def test_several_runs_on_a_gpu_that_is_not_used_are_a_mistake_and_one_that_is_elsewhere_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=cpu use no GPU.*trainer=gpu"):
        workers("cpu", 2)
    assert workers("gpu", 2) == cores(), "the login node of a cluster"
