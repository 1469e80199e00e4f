"""Killed at random moments, by every signal, a run ends in the same bytes."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_a_few_random_kills_change_nothing() -> None:
    script = REPOSITORY / "scripts" / "kill_and_resume.py"
    done = subprocess.run([sys.executable, script, "--kills", "10", "--seed", "1"], capture_output=True, text=True)
    assert done.returncode == 0 and "every run ended as the undisturbed one" in done.stdout, done.stdout + done.stderr
    assert "10 kills" in done.stdout
