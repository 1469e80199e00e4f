"""Settings of the Trainer: those in which a run may differ, each in one canonical form."""

from collections.abc import Mapping
from typing import Any

from temper.config.node import Node

# Precisions by all names that Lightning takes for them.
PRECISIONS = {
    "32": "32-true",
    "32-true": "32-true",
    "16": "16-mixed",
    "16-mixed": "16-mixed",
    "bf16": "bf16-mixed",
    "bf16-mixed": "bf16-mixed",
}
# Arguments of Trainer that temper sets itself, and the way that works.
OWNED = {
    "callbacks": "Write a penalty with callbacks(), or use the Python API.",
    "logger": "Choose logger=csv, tensorboard, wandb or a list of them.",
    "plugins": "temper brings its own, which write checkpoints atomically.",
    "enable_checkpointing": "Use keep_checkpoints=[] to delete checkpoints once a run is evaluated.",
    "default_root_dir": "Use paths.outputs.",
    "use_distributed_sampler": "temper's loader splits batches over devices itself.",
    "enable_progress_bar": "It follows the terminal.",
    "enable_model_summary": "Print the network in Python.",
    "fast_dev_run": "Use debug=fdr.",
    "check_val_every_n_epoch": "Every epoch is validated, since curves, best and last depend on it.",
    "val_check_interval": "Every epoch is validated, since curves, best and last depend on it.",
    "max_steps": "Use trainer.max_epochs.",
    "max_time": "Use trainer.max_epochs.",
    "min_epochs": "Use trainer.max_epochs.",
    "min_steps": "Use trainer.max_epochs.",
    "overfit_batches": "Use debug=overfit.",
    "reload_dataloaders_every_n_epochs": "The loader of temper is made once.",
    "barebones": "Use debug=limit.",
}


def check_trainer(node: Node | None, errors: list[str]) -> Node | None:
    """Return the Trainer's node with its settings in one form each; what is wrong is added to `errors`."""
    if node is None:
        return None
    for name in node.arguments:
        if name in OWNED and not (name == "check_val_every_n_epoch" and node.arguments[name] == 1):
            errors.append(f"trainer.{name}: is not for the config, since a run sets it itself. {OWNED[name]}")
    own = dict(node.arguments)
    for name, check in CHECKS.items():
        if name in own:
            try:
                own[name] = check(own[name])
            except (ValueError, TypeError) as error:
                errors.append(f"trainer.{name}={own[name]}: {error}.")
    return Node(node.key, node.target, own, node.entries, node.partial)


def _precision(value: Any) -> str:
    try:
        return PRECISIONS[str(value)]
    except KeyError:
        raise ValueError("should be 32-true, bf16-mixed or 16-mixed; weights stay in float32") from None


def _count(value: Any) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("should be a whole number of at least 1")
    return value


def _devices(value: Any) -> int | list[int] | str:
    if isinstance(value, list | tuple):
        if not value or any(isinstance(device, bool) or not isinstance(device, int) or device < 0 for device in value):
            raise ValueError("should be a number of devices, a list of their numbers such as [0,3], or auto")
        return list(value)
    if value in ("auto", "-1", -1):
        return "auto"
    try:
        return _count(value)
    except ValueError:
        raise ValueError("should be a number of devices, a list of their numbers such as [0,3], or auto") from None


def _one_node(value: Any) -> int:
    if _count(value) != 1:
        raise ValueError("should be 1: a run trains on one machine. Use trainer.devices for several of its devices")
    return 1


def _clip(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError("should be greater than 0, or null for no clipping")
    return float(value)


def _limit(value: Any) -> int | float | None:
    if value is None:
        return None
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or (isinstance(value, int) and value < 1) or (isinstance(value, float) and not 0 < value <= 1):
        raise ValueError("should be a number of batches of at least 1, or a fraction of them above 0.0 and up to 1.0")
    return value


CHECKS: Mapping[str, Any] = {
    "precision": _precision,
    "devices": _devices,
    "num_nodes": _one_node,
    "max_epochs": _count,
    "accumulate_grad_batches": _count,
    "gradient_clip_val": _clip,
    "limit_train_batches": _limit,
    "limit_val_batches": _limit,
}
