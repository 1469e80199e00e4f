"""Whether what fools one network of a study fools another better than the other's own attack does."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.progress import track
from torch import Tensor

from temper.attacks import PGD, probing
from temper.config.errors import ConfigError
from temper.data import Batch
from temper.data.loading import load_data
from temper.evaluation import Audit, Suite
from temper.runs.record import RunRecord, outcomes_file
from temper.runs.seeding import rekey
from temper.runs.terminal import console
from temper.training.modules import load


def transfer(evaluated: Mapping[Path, str], *, device: str = "cpu") -> str:
    """Add the check `transfer` to the audits of a study's runs, on the last checkpoint.

    Every network makes adversarial points of its own (PGD, as many steps as its audit takes); every other network is tried
    on them. A network that they break where its own attacks failed masks its gradients (Athalye et al. 2018, section 3.1).

    Args:
        evaluated: the folder of each run, and the key of the evaluation whose audit it is.

    Returns:
        What was found, in a line.

    Raises:
        ConfigError: there are fewer than two runs to compare, or their suite has no audit.
    """
    records = {folder: RunRecord.read(folder) for folder in evaluated}
    chosen = {folder: key for folder, key in evaluated.items() if "last" in records[folder].evaluations[key]["checkpoints"]}
    if len(chosen) < 2:
        raise ConfigError(f"transfer: the study has {len(chosen)} run whose last checkpoint was evaluated; it takes two")
    audits: dict[Path, Audit] = {}
    batches: dict[Path, Batch] = {}
    points: dict[Path, Tensor] = {}
    shown = {"console": console, "disable": not console.is_terminal, "transient": True}
    for folder, key in track(chosen.items(), "attacking", **shown):  # type: ignore[arg-type]
        run = OmegaConf.create(records[folder].config)
        run.evaluation = OmegaConf.create(records[folder].evaluations[key]["suite"])
        judged = Suite.of(run)
        if judged.audit is None:
            raise ConfigError(f"transfer is part of the audit, which the suite {key} leaves out")
        audits[folder] = judged.audit
        data = load_data(run)
        batches[folder] = next(iter(data.loader("test", batch_size=judged.audit.size, device=device)))
        attack = PGD(threat=judged.threat, steps=2 * judged.audit.steps, keep="worst")
        rekey(records[folder].seed, "transfer")
        net = load(folder / "checkpoints" / "last.ckpt")[0].net.to(device)
        if net.lift(batches[folder].x) is not batches[folder].x:
            raise ConfigError(
                "transfer=true: networks that embed their inputs, each its own way, share no points; leave it out"
            )
        points[folder] = attack.perturb(net, batches[folder])
    worst = 0.0
    for folder, key in track(chosen.items(), "transferring", **shown):  # type: ignore[arg-type]
        record, batch = records[folder], batches[folder]
        net = load(folder / "checkpoints" / "last.ckpt")[0].net.to(device)
        arrays = outcomes_file(folder, key, "last")
        own = torch.from_numpy(arrays["clean"])[: len(batch)]
        for attack_name in record.attacks(key):
            own &= torch.from_numpy(arrays[attack_name])[: len(batch)]
        figures = {}
        for source, x_adv in points.items():
            if source != folder and x_adv.shape == batch.x.shape and torch.equal(batches[source].x, batch.x):
                with probing(net, "eval"), torch.no_grad():
                    fooled = net(x_adv).argmax(1) != batch.y
                figures[source] = float((own & fooled.cpu()).double().mean())
        if figures:
            source = max(figures, key=lambda other: figures[other])
            finding = asdict(audits[folder].judge("transfer", figures[source]))
            finding["source"] = f"{source.parent.name}/{source.name}"
            record.evaluations[key]["checkpoints"]["last"]["audit"]["transfer"] = finding
            record.write(folder)
            worst = max(worst, figures[source])
    return (
        f"transfer: {len(chosen)} runs on each other's points; at most {100 * worst:.1f} % fell that their own attacks had left"
    )
