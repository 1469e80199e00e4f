"""Tests of the progress bar: shown in a terminal, absent from log files."""

import contextlib
import io
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from temper.data.loading import build_data
from temper.training.modules import build_module
from temper.training.progress_bar import TrainingBar
from tests.conftest import QUICK, composed


def test_terminal_shows_a_bar_and_the_log_file_has_plain_lines(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "temper.cli.train", *QUICK, "attack=fgsm", "evaluation.checkpoints=[]"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    with subprocess.Popen(command, cwd=tmp_path, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is closed
            while part := os.read(leader, 4096):
                shown += part
    os.close(leader)
    assert process.returncode == 0, shown.decode()
    assert "━" in shown.decode() and b"epoch 2 of 2:" in shown and b"left" in shown
    (log,) = tmp_path.rglob("train.log")
    text = log.read_text()
    assert "━" not in text and "\x1b" not in text and text.count("epoch 2 of 2:") == 1


def test_redirected_output_has_no_bar(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "temper.cli.train", *QUICK, "evaluation.checkpoints=[]"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "epoch 2 of 2:" in result.stderr
    assert not {"━", "\x1b", "\r"} & set(result.stdout + result.stderr)


@pytest.mark.parametrize("fails", [False, True])
def test_log_handlers_are_restored_at_the_end(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed(*QUICK)
    module, out = build_module(config), io.StringIO()
    bar = TrainingBar(Console(file=out, force_terminal=True, width=140))
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    if fails:
        monkeypatch.setattr(module, "on_validation_epoch_end", lambda: 1 / 0)
    trainer = config.trainer.build(logger=False, callbacks=[bar], enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError) if fails else contextlib.nullcontext():
        trainer.fit(module, build_data(config))
    assert logging.getLogger().handlers == [handler] and handler.stream is sys.stderr and not bar.bar.live.is_started
    assert f"epoch {1 if fails else 2}/2" in out.getvalue() and ("val/clean" in out.getvalue()) != fails
