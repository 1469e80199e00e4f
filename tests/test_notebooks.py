"""Notebooks run from top to bottom on a real study, and carry no outputs."""

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import QUICK

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_in_git(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_executes(path: Path, temper: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = temper("train", "-m", "attack=none,pgd", "penalty=none,l2", "seed=0,1", "study=grid", *QUICK)
    assert status == 0, output
    monkeypatch.setenv("TEMPER_STUDY", str(tmp_path / "outputs" / "grid"))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    kinds = {output.get("output_type") for cell in notebook.cells for output in cell.get("outputs", [])}
    assert "execute_result" in kinds and "error" not in kinds
    assert "image/png" in str(notebook), "figures are shown"
