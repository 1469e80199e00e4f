"""What does not go with `model.compile`."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from omegaconf import DictConfig
from torch import Tensor

from temper.attacks import Evolving
from temper.attacks.gradient_step import take_step
from temper.config.errors import ConfigError
from temper.data import DataModule
from temper.models import Compiler, StepNetwork
from temper.penalties.penalty import Penalty
from temper.training.modules import Classifier


def validate_compiled(config: DictConfig, module: Classifier, data: DataModule) -> None:
    """Whether all that is trained can be compiled.

    Raises:
        ConfigError: naming what cannot.
    """
    compiler = module.compiler
    assert compiler is not None
    if config.trainer.get("sync_batchnorm"):
        raise ConfigError("model.compile=true does not go with trainer.sync_batchnorm=true: ranks talk amid the network")
    if compiler.cuda_graphs and config.trainer.accumulate_grad_batches > 1:
        raise ConfigError(
            "model.compile=cuda_graphs does not go with trainer.accumulate_grad_batches: the gradients of one batch lie "
            "where the next one writes; set model.compile to true, or data.batch_size to that of all batches together"
        )
    if isinstance(module.attack, Evolving) and module.attack.ramp_eps:
        growing = [threat.norm for threat, _ in module.attack.full if threat is not None and threat.norm != "linf"]
        if growing:
            raise ConfigError(
                f"model.compile does not go with attack.ramp_eps under {growing[0]}: every radius would be compiled; set "
                "attack.ramp_eps to 0, or leave model.compile at false"
            )
    for name, penalty in module.penalties:
        if type(penalty).exposed is not Penalty.exposed:
            # Some versions of torch trace the ascent without it, and say nothing.
            raise ConfigError(
                f"model.compile=true does not go with penalty.{name}: attacks climb its loss too, by a gradient within the "
                "network that they see; leave model.compile at false"
            )
    _try(module, data)


def _try(module: Classifier, data: DataModule) -> None:
    """Take the gradient of the risk, and of each penalty, through the traced network: what differentiates a gradient, or looks
    into the network while it runs, does not go with `torch.compile`."""
    net, attack = copy.deepcopy(module.net), copy.deepcopy(module.attack)
    tracer = Compiler(backend="aot_eager")  # what cannot be compiled fails there already, in a second
    tracer.network(net)
    attack.step_by(tracer.function(take_step))
    batch = next(iter(data.loader("val", batch_size=4)))
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]

    def attempt(key: str, value: Callable[[], Tensor | None]) -> None:
        try:
            found = value()
            if found is not None and found.requires_grad:
                torch.autograd.grad(found, weights, allow_unused=True)
        except Exception as error:  # whatever torch, or a part from outside, raises
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ConfigError(f"model.compile=true does not go with {key}: {reason}; leave model.compile at false") from error

    attempt("model", lambda: net(batch.x).sum())
    attempt("attack", lambda: attack.risk(StepNetwork(net), batch, attack.perturb(net, batch)).sum())
    for name, penalty in module.penalties:
        batch = penalty.transform(batch)
        attempt(f"penalty.{name}", partial(penalty.term, net, batch, batch.x))
