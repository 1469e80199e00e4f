"""Tests of a single run: resuming bit-identically, evaluation by a second suite, stale and damaged files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from temper.runs.record import RECORD, RunRecord
from temper.training.modules import Classifier, load
from tests.conftest import QUICK

Temper = Callable[..., tuple[int, str]]


def only_run(study: str = "default") -> Path:
    (folder,) = Path("outputs", study).glob("*/seed-*")
    return folder


def untimed(folder: Path) -> dict[str, Any]:
    """Return a record without clock times and the commit, which may differ between two equal runs."""
    values = json.loads((folder / RECORD).read_text())
    del values["commit"], values["dirty"]
    values["cost"] = {"gradient_evaluations": values["cost"]["gradient_evaluations"]}
    for evaluation in values["evaluations"].values():
        evaluation.pop("seconds")
    return values


def kill(command: list[str], study: str, *prefixes: str, environment: Mapping[str, str] = os.environ) -> None:
    """Kill a run soon after it prints a line with a prefix, once for each prefix; retry if the run ended before."""

    def killed_at(prefix: str) -> bool:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**environment, "PYTHONUNBUFFERED": "1"})
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if line.startswith(prefix):
                time.sleep(0.05)
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() in (0, -signal.SIGKILL), "".join(seen) + process.stderr.read()
        return process.returncode == -signal.SIGKILL

    for _ in range(3):
        if all(killed_at(prefix) for prefix in prefixes):
            return
        shutil.rmtree(Path("outputs", study))
    pytest.fail("three runs ended before they could be killed")


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that two state dicts are bit-identical, including values that are not tensors."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name], name


def test_run_writes_a_complete_record_and_loadable_checkpoints(temper: Temper) -> None:
    status, output = temper("train", "attack=pgd", "penalty=[l2,dropout]", *QUICK)
    assert status == 0, output
    folder = only_run()
    record = RunRecord.read(folder)
    assert record.finished and record.kind == "combined" and record.epochs == 2 and record.error is None
    assert record.cost["gradient_evaluations"] == 8, "seven steps of PGD and the update"
    assert {len(values) for values in record.curves.values()} == {2}
    assert {"train/risk", "train/penalty", "val/clean", "val/pgd", "val/zero_gradients"} <= set(record.curves)
    (evaluation,) = record.evaluations.values()
    metrics = evaluation["checkpoints"]["last"]["metrics"]
    assert {"test/clean", "test/fgsm", "test/pgd", "test/worst_case", "gap/robust", "weights/norm"} <= set(metrics)
    for name in ("best", "last"):
        module, _ = load(folder / "checkpoints" / f"{name}.ckpt")
        assert module(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert load(folder / "checkpoints" / "last.ckpt")[1] == 1, "last is the last epoch"
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3 and "val/pgd" in rows[0]


def test_risk_excludes_the_penalty(temper: Temper) -> None:
    temper("train", "penalty=l2", "strength=10", *QUICK)
    curves = RunRecord.read(only_run()).curves
    for risk, penalty, loss in zip(curves["train/risk"], curves["train/penalty"], curves["train/loss"], strict=True):
        assert penalty > 0.1 and loss == pytest.approx(risk + penalty, rel=1e-5)


def test_finished_run_is_skipped_and_evaluated_by_a_second_suite(temper: Temper) -> None:
    temper("train", *QUICK)
    folder = only_run()
    before = (folder / "checkpoints/last.ckpt").stat().st_mtime_ns, (folder / RECORD).read_bytes()
    status, output = temper("train", *QUICK)
    assert status == 0 and "already finished" in output
    assert before == ((folder / "checkpoints/last.ckpt").stat().st_mtime_ns, (folder / RECORD).read_bytes())
    temper("train", *QUICK, "evaluation.attacks.pgd.steps=3")
    assert before[0] == (folder / "checkpoints/last.ckpt").stat().st_mtime_ns, "not trained again"
    assert len(RunRecord.read(folder).evaluations) == 2 and len(list((folder / "evaluations").iterdir())) == 2


def test_same_seed_gives_identical_files(temper: Temper) -> None:
    for study in ("one", "other"):
        temper("train", f"study={study}", "attack=pgd", "penalty=dropout", *QUICK)
    one, other = only_run("one"), only_run("other")
    for record in (records := [untimed(one), untimed(other)]):
        record["config"]["study"] = record["study"] = ""
    assert records[0] == records[1]
    for array in (one / "evaluations").rglob("*.npz"):
        assert array.read_bytes() == (other / array.relative_to(one)).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "penalty",
    [
        ("penalty=[dropout,l2]",),
        ("penalty=[dropout,l1,l2,ema,controlled,self_distillation,mixup]", "penalty.l2.relative=0.1"),
        ("penalty=[early_stopping,spectral,adaptive_weight_decay,jacobian,meta,awp]",),
    ],
    ids=lambda penalty: penalty[0].removeprefix("penalty="),
)
def test_killed_and_resumed_run_is_bit_identical(penalty: tuple[str, ...], temper: Temper, tmp_path: Path) -> None:
    """Kill twice during training with random starts, dropout, shuffling, momentum and stateful penalties."""
    settings = ("attack=pgd", *penalty, *QUICK, "trainer.max_epochs=8", "logger=[csv]")
    temper("train", "study=uninterrupted", *settings)
    command = [sys.executable, "-m", "temper.cli.train", "study=killed", *settings]
    kill(command, "killed", "epoch 2 ", "epoch 5 ")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "resuming from" in done.stderr, done.stderr
    uninterrupted, killed = only_run("uninterrupted"), only_run("killed")
    records = [untimed(uninterrupted), untimed(killed)]
    for record in records:
        record["config"]["study"] = record["study"] = ""
    assert records[0] == records[1]
    states = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (uninterrupted, killed)
    ]
    assert_same(*states)
    assert (uninterrupted / "metrics.csv").read_text() == (killed / "metrics.csv").read_text(), "no epoch is lost"


def test_damaged_checkpoint_is_set_aside_and_training_restarts(temper: Temper) -> None:
    temper("train", *QUICK)
    folder = only_run()
    expected = untimed(folder)
    (folder / RECORD).unlink()
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    status, output = temper("train", *QUICK)
    assert status == 0 and "last.ckpt is damaged; set aside" in output
    assert (folder / "checkpoints.damaged" / "last.ckpt").exists() and untimed(folder) == expected


def test_damaged_record_is_set_aside_and_rewritten(temper: Temper) -> None:
    temper("train", *QUICK)
    folder = only_run()
    expected = untimed(folder)
    (folder / RECORD).write_text((folder / RECORD).read_text()[:500])
    status, output = temper("train", *QUICK)
    assert status == 0 and "damaged" in output and (folder / f"{RECORD}.damaged").exists()
    assert untimed(folder) == expected


def test_failed_run_writes_a_record_and_is_retried(temper: Temper) -> None:
    diverging = ("optimizer.lr=1e30", *QUICK)
    status, output = temper("train", *diverging)
    assert status == 1 and "diverged at epoch" in output and "optimizer.lr" in output
    record = RunRecord.read(only_run())
    assert not record.finished and record.error is not None and "diverged" in record.error
    assert temper("train", *diverging)[0] == 1, "a failed run is not a finished one"


def test_runs_of_different_code_are_stale(temper: Temper) -> None:
    temper("train", *QUICK)
    folder = only_run()
    values = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(values | {"code": "yesterday"}))
    status, output = temper("train", *QUICK)
    assert status == 1 and "stale=keep" in output and "stale=rerun" in output
    assert RunRecord.read(folder).code == "yesterday"
    assert temper("train", *QUICK, "stale=keep")[0] == 0 and RunRecord.read(folder).code == "yesterday"
    assert temper("train", *QUICK, "stale=rerun")[0] == 0 and RunRecord.read(folder).code != "yesterday"
    assert (folder / f"{RECORD}.stale-yesterday").exists() and (folder / "checkpoints.stale-yesterday").exists()


def test_keep_checkpoints(temper: Temper) -> None:
    temper("train", *QUICK, "keep_checkpoints=[best]")
    folder = only_run()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.ckpt"]
    status, output = temper("train", *QUICK, "evaluation.attacks.pgd.steps=3", "keep_checkpoints=[best]")
    assert status == 1 and "keep_checkpoints" in output
    assert RunRecord.read(folder).finished, "the run must stay finished"


def test_best_and_last_checkpoints(temper: Temper) -> None:
    temper("train", *QUICK, "trainer.max_epochs=6", "optimizer.lr=0.5")
    folder = only_run()
    record = RunRecord.read(folder)
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["epoch"]
    assert record.curves["val/clean"][best] == max(record.curves["val/clean"])
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 5


def test_debug_runs_go_to_the_debug_study(temper: Temper) -> None:
    status, output = temper("train", "debug=fdr", "attack=pgd")
    assert status == 0 and Path("outputs/debug").is_dir(), output


def test_dry_run_trains_nothing(temper: Temper) -> None:
    status, output = temper("train", "dry_run=true", *QUICK)
    assert status == 0 and "to run" in output and not list(Path("outputs").rglob("*.ckpt"))
    temper("train", *QUICK)
    assert "finished" in temper("train", "dry_run=true", *QUICK)[1]


def test_free_training_replays_its_batches(temper: Temper) -> None:
    """An epoch with m replays has m steps and m gradients per example; the perturbation is in the checkpoint."""
    status, output = temper("train", *QUICK, "attack=free", "attack.replays=3", "data.batch_size=64")
    assert status == 0, output
    folder = only_run()
    assert RunRecord.read(folder).cost["gradient_evaluations"] == 3
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * 3 * 4, "two epochs of four batches, each replayed three times"
    delta = checkpoint["state_dict"]["attack._extra_state"]
    assert delta.shape == (64, 1, 8, 8) and 0 < delta.abs().max() <= 0.125


@pytest.mark.parametrize("attack", [("attack=free", "attack.replays=2"), ("attack=evolving",)])
def test_stateful_attacks_resume_bit_identically(
    attack: tuple[str, ...], temper: Temper, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*QUICK, *attack, "data.batch_size=32", "trainer.max_epochs=4", "logger=[csv]")
    assert temper("train", "study=uninterrupted", *settings)[0] == 0
    epochs = 0

    def interrupt(self: Classifier) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(Classifier, "on_train_epoch_start", interrupt)
        assert temper("train", "study=resumed", *settings)[0] != 0
    status, output = temper("train", "study=resumed", *settings)
    assert status == 0 and "resuming from" in output
    states = [
        torch.load(only_run(study) / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for study in ("uninterrupted", "resumed")
    ]
    assert_same(*states)
    assert RunRecord.read(only_run("uninterrupted")).curves == RunRecord.read(only_run("resumed")).curves


def test_attack_mode_is_recorded_and_has_an_effect(temper: Temper) -> None:
    for mode in ("eval", "train"):
        assert temper("train", f"study={mode}", *QUICK, "attack=pgd", "penalty=batch_norm", f"attack.mode={mode}")[0] == 0
    records = {mode: RunRecord.read(only_run(mode)) for mode in ("eval", "train")}
    assert all(record.config["attack"]["mode"] == mode for mode, record in records.items())
    assert records["eval"].digest != records["train"].digest
    assert records["eval"].curves["train/risk"] != records["train"].curves["train/risk"]


def test_training_from_the_checkpoint_of_a_run_with_other_penalties(temper: Temper) -> None:
    """The network comes from the checkpoint, the penalties from the config."""
    status, output = temper("train", *QUICK, "study=first", "penalty=l2")
    assert status == 0, output
    start = only_run("first") / "checkpoints" / "last.ckpt"
    last_penalty = {}
    for number, penalty in enumerate(("penalty.l2.weight=1", "penalty=self_distillation", "penalty=[ema,dropout]")):
        other = ["penalty=l2", penalty] if "weight" in penalty else [penalty]
        status, output = temper("train", *QUICK, "trainer.max_epochs=3", f"study=next{number}", *other, f"ckpt_path={start}")
        assert status == 0, output
        record = RunRecord.read(only_run(f"next{number}"))
        assert record.epochs == 3
        last_penalty[penalty] = record.curves["train/penalty"][-1]
    first = RunRecord.read(only_run("first")).curves["train/penalty"][-1]
    assert last_penalty["penalty.l2.weight=1"] > 20 * first


def test_gradient_evaluations_are_counted_for_every_first_layer(temper: Temper) -> None:
    """A parametrized layer has no weights itself, and a rotation head does not compute logits."""
    for penalty, expected in (("spectral_norm", 2), ("rotation", 4)):
        status, output = temper(
            "train", *QUICK[:4], "model=preact_resnet18", "model.width=2", "attack=pgd", "attack.steps=1", f"penalty={penalty}",
            "validation.steps=1", "trainer.max_epochs=1", f"study={penalty}",
        )  # fmt: skip
        assert status == 0, output
        assert RunRecord.read(only_run(penalty)).cost["gradient_evaluations"] == expected
