"""What a run's checkpoints are for: to go on from, and to be evaluated."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from temper.config.cell import Kind
from temper.config.composed import plain_part
from temper.data import DataModule
from temper.evaluation import Ledger, Suite, evaluate, fingerprint, loss_instability
from temper.evaluation.suite import Evaluation
from temper.models import Network, lay_out
from temper.runs.atomic_files import write_arrays
from temper.runs.provenance import code_digest, suite_key, targets_of
from temper.runs.record import RunRecord, outcomes_path
from temper.training.modules import load

log = logging.getLogger("temper")


def evaluate_checkpoints(
    config: DictConfig, data: DataModule, folder: Path, record: RunRecord, *, device: str, show: bool = False
) -> dict[str, Any]:
    """Every checkpoint that the evaluation names: outcomes per example into the run's folder, numbers for its record."""
    networks: dict[str, tuple[Network, int | None]] = {}
    for name in config.evaluation.checkpoints:
        module, epoch = load(folder / "checkpoints" / f"{name}.ckpt")
        networks[name] = (module.net, epoch)
    evaluation = evaluate_networks(config, networks, data, folder, record, device=device, show=show)
    overall = {"val/loss_instability": loss_instability(record.curves["val/loss"])}
    if {"val/fgsm", f"val/{config.validation.name}"} <= set(record.curves):
        # Wong et al. 2020: a network that only withstands the single step it was trained on.
        steps = zip(record.curves["val/fgsm"], record.curves[f"val/{config.validation.name}"], strict=True)
        overall["val/overfitting_to_fgsm"] = max(fgsm - iterative for fgsm, iterative in steps)
    if {"best", "last"} <= set(networks):
        # Rice et al. 2020: what early stopping would have saved.
        best, last = (evaluation["checkpoints"][name]["metrics"]["test/worst_case"] for name in ("best", "last"))
        overall["gap/robust_overfitting"] = best - last
    return evaluation | {"run": overall}


def evaluate_networks(
    config: DictConfig,
    networks: dict[str, tuple[Network, int | None]],
    data: DataModule,
    folder: Path,
    record: RunRecord,
    *,
    device: str,
    show: bool = False,
) -> dict[str, Any]:
    """Networks by name, each with its epoch, by the config's suite; what is interrupted goes on where it stopped."""
    suite, values = Suite.of(config), plain_part(config, "evaluation")
    key, code = suite_key(values), code_digest(targets_of(values))
    since = time.perf_counter()
    evaluations: dict[str, Evaluation] = {}
    prints: dict[str, str] = {}
    for name, (net, _) in networks.items():
        prints[name] = fingerprint(net, code, str(record.seed))
        twin = next((other for other in evaluations if prints[other] == prints[name]), None)
        if twin is not None:  # the best epoch was the last one
            evaluations[name] = evaluations[twin]
        else:
            lay_out(net, config.model.get("channels_last", False), device)
            with Ledger(_pieces(folder, key) / prints[name], show=show) as ledger:
                # Of a foreign network nobody knows: it is looked at as if it were.
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
        "seconds": time.perf_counter() - since,
    }


def forget_pieces(folder: Path, key: str) -> None:
    """Remove what an evaluation kept to go on from, once its record is written."""
    shutil.rmtree(_pieces(folder, key), ignore_errors=True)


def _pieces(folder: Path, key: str) -> Path:
    return folder / "evaluations" / key / "pieces"
