"""Tests of scripts/kill_and_resume.py."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_random_kills_do_not_change_the_files() -> None:
    script = REPOSITORY / "scripts" / "kill_and_resume.py"
    done = subprocess.run([sys.executable, script, "--kills", "10", "--seed", "1"], capture_output=True, text=True)
    assert done.returncode == 0 and "all runs are identical to the uninterrupted one" in done.stdout, done.stdout + done.stderr
    assert "10 kills" in done.stdout
