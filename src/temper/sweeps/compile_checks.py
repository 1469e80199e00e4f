"""Checks that everything which is trained supports `model.compile`."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from temper.attacks import Evolving
from temper.attacks.gradient_step import take_step
from temper.config.errors import ConfigError, first_line
from temper.config.run_config import RunConfig
from temper.data import DataModule
from temper.models import Compiler, StepNetwork
from temper.penalties.penalty import Penalty
from temper.training.modules import Classifier


def validate_compiled(run: RunConfig, module: Classifier, data: DataModule) -> None:
    """Check that model, attack and penalties can be compiled.

    Args:
        run: the run.
        module: with a compiler.
        data: whose first validation examples are used.

    Raises:
        ConfigError: a part cannot be compiled; the message names it.
    """
    compiler = module.compiler
    assert compiler is not None
    if run.trainer.get("sync_batchnorm"):
        raise ConfigError(
            "model.compile=true: does not support trainer.sync_batchnorm=true, because devices communicate within the network. "
            "Set one of them to false."
        )
    if compiler.cuda_graphs and run.trainer.accumulate_grad_batches > 1:
        raise ConfigError(
            "model.compile=cuda_graphs: does not support trainer.accumulate_grad_batches="
            f"{run.trainer.accumulate_grad_batches}, because each batch overwrites the memory of the previous batch's "
            "gradients. Set model.compile=true, or increase data.batch_size instead."
        )
    if isinstance(module.attack, Evolving) and module.attack.ramp_eps:
        norms = [threat.norm for threat, _ in module.attack.full if threat is not None and threat.norm != "linf"]
        if norms:
            raise ConfigError(
                f"model.compile=true: does not support attack.ramp_eps with norm {norms[0]}, because it would compile again "
                "for every radius. Set attack.ramp_eps=0 or model.compile=false."
            )
    for name, penalty in module.penalties:
        if type(penalty).attacked_network is not Penalty.attacked_network:
            # Some versions of torch trace the ascent without this gradient, and give no error.
            raise ConfigError(
                f"model.compile=true: does not support penalty.{name}, because attacks also ascend its loss, which takes a "
                "gradient within the network. Set model.compile=false."
            )
    _try_compiled(module, data)


def _try_compiled(module: Classifier, data: DataModule) -> None:
    """Differentiate the risk and each penalty through the traced network.

    `torch.compile` does not support double backward, or code that inspects the network during its forward pass.
    """
    net, attack = copy.deepcopy(module.net), copy.deepcopy(module.attack)
    tracer = Compiler(backend="aot_eager")  # fails on the same code as inductor, within a second
    tracer.compile_network(net)
    attack.set_step(tracer.compile_function(take_step))
    batch = next(iter(data.loader("val", batch_size=4)))
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]

    def attempt(key: str, compute: Callable[[], Tensor | None]) -> None:
        try:
            loss = compute()
            if loss is not None and loss.requires_grad:
                torch.autograd.grad(loss, weights, allow_unused=True)
        except Exception as error:  # torch or an external class may raise anything
            raise ConfigError(
                f"model.compile=true: does not support {key}: {first_line(error)}. Set model.compile=false."
            ) from error

    attempt("model", lambda: net(batch.x).sum())
    attempt("attack", lambda: attack.risk(StepNetwork(net), batch, attack.perturb(net, batch)).sum())
    for name, penalty in module.penalties:
        batch = penalty.transform(batch)
        attempt(f"penalty.{name}", partial(penalty.term, net, batch, batch.x))
