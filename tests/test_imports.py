"""Tests of imports: commands that only read records load neither torch nor Lightning, which take seconds and most of a GiB."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.test_pipeline import RUNS, write_study

LOADED = "import sys; print([name for name in ('torch', 'pytorch_lightning') if name in sys.modules])"


def loaded(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", f"{code}\n{LOADED}"], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.mark.parametrize("module", ["temper.cli.report", "temper.report", "temper.cli.status"])
def test_record_commands_load_without_torch(module: str) -> None:
    assert loaded(f"import {module}") == "[]"


def test_study_without_checkpoints_is_reported_without_torch(tmp_path: Path) -> None:
    study = write_study(tmp_path, RUNS)
    call = f"make_report(Path({str(study)!r}), Path({str(tmp_path / 'results')!r}))"
    assert loaded(f"from pathlib import Path\nfrom temper.report import make_report\n{call}") == "[]"
    assert (tmp_path / "results/table.md").exists()
