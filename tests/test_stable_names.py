"""Tests of names that records, configs and users depend on: cells of every experiment and public names of each axis."""

import json
from pathlib import Path

import pytest
from hydra.utils import get_object

from temper.config.cell import Cell
from temper.config.composed import CONF
from tests.conftest import FILES, composed
from tests.test_experiments import cells

NAMES = json.loads((FILES / "stable_names.json").read_text())


def test_every_experiment_is_listed() -> None:
    assert set(NAMES["cells"]) == {path.stem for path in (Path(CONF) / "experiment").glob("*.yaml")}


@pytest.mark.parametrize("experiment", NAMES["cells"])
def test_cells_keep_their_names(experiment: str) -> None:
    """Compare cell names, which are folder names: under another name, finished runs would be retrained."""
    configs = [composed("experiment=search")] if experiment == "search" else cells(experiment)  # a search has no grid
    assert [Cell.of(cell).name for cell in configs] == NAMES["cells"][experiment]


@pytest.mark.parametrize("package", NAMES["public"])
def test_public_names_stay_importable(package: str) -> None:
    """Import the paths by which `_target_` in records and configs names classes."""
    for name in NAMES["public"][package]:
        assert get_object(f"{package}.{name}") is not None
