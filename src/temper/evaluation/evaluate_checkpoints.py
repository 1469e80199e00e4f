"""Evaluation of a run's checkpoints by a suite."""

import shutil
import time
from pathlib import Path
from typing import Any

from temper.config.cell import Kind
from temper.config.run_config import EvaluationConfig
from temper.data import DataModule
from temper.evaluation import Ledger, Suite, evaluate, fingerprint, loss_instability
from temper.evaluation.suite import Evaluation
from temper.models import Network, lay_out
from temper.runs.atomic_files import write_arrays
from temper.runs.identity import code_digest, suite_key, targets_of
from temper.runs.record import RunRecord, outcomes_path
from temper.training.modules import load


def evaluate_checkpoints(
    config: EvaluationConfig, data: DataModule, folder: Path, record: RunRecord, *, device: str, show: bool = False
) -> dict[str, Any]:
    """Evaluate the checkpoints that `evaluation.checkpoints` names, and compute metrics of the whole run.

    Args:
        config: of the run.
        data: of the run.
        folder: of the run; per-example outcomes are written there.
        record: of the run; its curves give the metrics of the whole run.
        device: where to evaluate.
        show: draw a progress bar.

    Returns:
        The entry of the record's `evaluations`.
    """
    networks: dict[str, tuple[Network, int | None]] = {}
    for name in config.evaluation.checkpoints:
        module, epoch = load(folder / "checkpoints" / f"{name}.ckpt")
        networks[name] = (module.net, epoch)
    evaluation = evaluate_networks(config, networks, data, folder, record, device=device, show=show)
    metrics = {"val/loss_instability": loss_instability(record.curves["val/loss"])}
    if {"val/fgsm", f"val/{config.validation.name}"} <= set(record.curves):
        # Catastrophic overfitting (Wong et al. 2020): the network is robust only to the single step that it was trained on.
        curves = zip(record.curves["val/fgsm"], record.curves[f"val/{config.validation.name}"], strict=True)
        metrics["val/overfitting_to_fgsm"] = max(fgsm - iterative for fgsm, iterative in curves)
    if {"best", "last"} <= set(networks):
        # Robust overfitting (Rice et al. 2020): the accuracy that early stopping would have saved.
        best, last = (evaluation["checkpoints"][name]["metrics"]["test/worst_case"] for name in ("best", "last"))
        metrics["gap/robust_overfitting"] = best - last
    return evaluation | {"run": metrics}


def evaluate_networks(
    config: EvaluationConfig,
    networks: dict[str, tuple[Network, int | None]],
    data: DataModule,
    folder: Path,
    record: RunRecord,
    *,
    device: str,
    show: bool = False,
) -> dict[str, Any]:
    """Evaluate networks by the config's suite; an interrupted evaluation resumes from its partial results.

    Args:
        config: of the run.
        networks: by checkpoint name, each with its epoch (None if unknown).
        data: of the run.
        folder: of the run; per-example outcomes and partial results are written there.
        record: of the run.
        device: where to evaluate.
        show: draw a progress bar.

    Returns:
        The entry of the record's `evaluations`, without metrics of the whole run.
    """
    suite, values = Suite.of(config), config.evaluation.plain()
    key, code = suite_key(values), code_digest(targets_of(values))
    start = time.perf_counter()
    evaluations: dict[str, Evaluation] = {}
    fingerprints: dict[str, str] = {}
    for name, (net, _) in networks.items():
        fingerprints[name] = fingerprint(net, code, str(record.seed))
        same = next((other for other in evaluations if fingerprints[other] == fingerprints[name]), None)
        if same is not None:  # the best epoch is the last one
            evaluations[name] = evaluations[same]
        else:
            lay_out(net, config.model.get("channels_last", False), device)
            with Ledger(_partial_results(folder, key) / fingerprints[name], show=show) as ledger:
                # The training of an external network is unknown; it is audited as if it were adversarial.
                attacked = record.kind in (Kind.ADVERSARIAL, Kind.COMBINED, Kind.EXTERNAL)
                evaluations[name] = evaluate(
                    net, suite, data, seed=record.seed, device=device, attacked=attacked, ledger=ledger
                )
        write_arrays(outcomes_path(folder, key, name), evaluations[name].arrays)
    return {
        "suite": values,
        "versions": suite.versions,
        "code": code,
        "checkpoints": {
            name: {"epoch": epoch, "metrics": evaluations[name].metrics, "audit": evaluations[name].audit}
            for name, (_, epoch) in networks.items()
        },
        "run": {},
        "seconds": time.perf_counter() - start,
    }


def delete_partial_results(folder: Path, key: str) -> None:
    """Delete the partial results of an evaluation, once its record is written.

    Args:
        folder: of the run.
        key: of the suite.
    """
    shutil.rmtree(_partial_results(folder, key), ignore_errors=True)


def _partial_results(folder: Path, key: str) -> Path:
    return folder / "evaluations" / key / "pieces"
