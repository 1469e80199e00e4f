"""What a command loads: those that read records alone do without torch and Lightning, seconds and most of a GiB."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.test_pipeline import RUNS, written

LOADED = "import sys; print([name for name in ('torch', 'pytorch_lightning') if name in sys.modules])"


def loaded(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{LOADED}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["temper.cli.report", "temper.report", "temper.cli.status"])
def test_records_are_read_without_torch(module: str) -> None:
    assert loaded(f"import {module}") == "[]"


def test_a_study_without_checkpoints_is_reported_without_torch(tmp_path: Path) -> None:
    study = written(tmp_path, RUNS)
    made = f"make_report(Path({str(study)!r}), Path({str(tmp_path / 'results')!r}))"
    assert loaded(f"from pathlib import Path\nfrom temper.report import make_report\n{made}") == "[]"
    assert (tmp_path / "results/table.md").exists()
