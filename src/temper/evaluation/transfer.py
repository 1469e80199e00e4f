"""Transfer check of the audit: adversarial examples of each network of a study, evaluated on the others."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from temper.attacks import PGD, probing
from temper.config.errors import ConfigError
from temper.config.run_config import parse
from temper.data import Batch
from temper.data.loading import load_data
from temper.evaluation import Audit, Suite
from temper.runs.record import RunRecord, load_outcomes
from temper.runs.seeding import rekey
from temper.runs.terminal import console
from temper.training.modules import load


def transfer(evaluated: Mapping[Path, str], *, device: str = "cpu") -> str:
    """Add the check `transfer` to the audits of a study's runs, on the last checkpoint.

    Each network makes adversarial examples by PGD with twice its audit's steps, and every other network is evaluated on them.
    If they break examples that are robust to a network's own suite, that network masks its gradients (Athalye et al. 2018,
    section 3.1).

    Args:
        evaluated: by run folder, the key of the evaluation whose audit is extended.
        device: where to evaluate.

    Returns:
        A one-line summary.

    Raises:
        ConfigError: there are fewer than two runs to compare, their suite has no audit, or a network embeds its inputs.
    """
    records = {folder: RunRecord.read(folder) for folder in evaluated}
    chosen = {folder: key for folder, key in evaluated.items() if "last" in records[folder].evaluations[key]["checkpoints"]}
    if len(chosen) < 2:
        raise ConfigError(
            f"transfer=true: needs at least two runs whose last checkpoint is evaluated, but the study has {len(chosen)}. "
            "Evaluate more runs, or set transfer=false."
        )
    audits: dict[Path, Audit] = {}
    batches: dict[Path, Batch] = {}
    points: dict[Path, Tensor] = {}
    display = {"console": console, "disable": not console.is_terminal, "transient": True}
    for folder, key in track(chosen.items(), "attacking", **display):  # type: ignore[arg-type]
        run = parse(records[folder].config).with_suite(records[folder].evaluations[key]["suite"])
        suite = Suite.of(run)
        if suite.audit is None:
            raise ConfigError(
                f"transfer=true: this check is part of the audit, but suite {key} has none. Use a suite with an audit, such as "
                "evaluation=standard, or set transfer=false."
            )
        audits[folder] = suite.audit
        data = load_data(run)
        batches[folder] = next(iter(data.loader("test", batch_size=suite.audit.size, device=device)))
        attack = PGD(threat=suite.threat, steps=2 * suite.audit.steps, keep="worst")
        rekey(records[folder].seed, "transfer")
        net = load(folder / "checkpoints" / "last.ckpt")[0].net.to(device)
        if net.lift(batches[folder].x) is not batches[folder].x:
            raise ConfigError(
                "transfer=true: networks that embed their inputs have no common input space to transfer in. Set transfer=false."
            )
        points[folder] = attack.perturb(net, batches[folder])
    worst = 0.0
    for folder, key in track(chosen.items(), "transferring", **display):  # type: ignore[arg-type]
        record, batch = records[folder], batches[folder]
        net = load(folder / "checkpoints" / "last.ckpt")[0].net.to(device)
        arrays = load_outcomes(folder, key, "last")
        robust = torch.from_numpy(arrays["clean"])[: len(batch)]
        for attack_name in record.attacks(key):
            robust &= torch.from_numpy(arrays[attack_name])[: len(batch)]
        figures = {}
        for source, x_adv in points.items():
            if source != folder and x_adv.shape == batch.x.shape and torch.equal(batches[source].x, batch.x):
                with probing(net, "eval"), torch.no_grad():
                    wrong = net(x_adv).argmax(1) != batch.y
                figures[source] = float((robust & wrong.cpu()).double().mean())
        if figures:
            source = max(figures, key=lambda other: figures[other])
            finding = asdict(audits[folder].judge("transfer", figures[source]))
            finding["source"] = f"{source.parent.name}/{source.name}"
            record.evaluations[key]["checkpoints"]["last"]["audit"]["transfer"] = finding
            record.write(folder)
            worst = max(worst, figures[source])
    return (
        f"transfer: {len(chosen)} runs evaluated on each other's adversarial examples; they break at most {100 * worst:.1f} % "
        "of examples that are robust to a run's own suite"
    )
