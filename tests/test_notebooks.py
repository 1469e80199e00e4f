"""Tests of notebooks: they run from top to bottom in an empty folder, define nothing, and contain no outputs."""

import ast
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
MAX_LINES = 16  # lines of code per cell


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_contain_no_outputs(path: Path) -> None:
    cells = code_cells(path)
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short_and_define_nothing(path: Path) -> None:
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= MAX_LINES, cell.source
        nodes = ast.walk(ast.parse(TransformerManager().transform_cell(cell.source)))
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in nodes), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_imports_resolve(path: Path) -> None:
    """Execute all imports, so that the quick tests notice a moved name."""
    sources = [TransformerManager().transform_cell(cell.source) for cell in code_cells(path)]
    imports = [node for source in sources for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    for node in imports:
        exec(ast.unparse(node), {})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_notebooks_execute_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run them in order: the first trains the small study that the others read."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in all tests, since other workers use the cores
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, folder)
        notebook = nbformat.read(folder / path.name, as_version=4)
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert "error" not in {output.output_type for output in outputs}
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3, "figures are shown"
        if path.stem == "02_an_attack_up_close":
            assert "[True, True]" in str(outputs), "the explicit loop equals PGD"
    assert len(list((tmp_path / "outputs" / "small").glob("*/seed-*/result.json"))) == 18
