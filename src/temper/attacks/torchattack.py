"""Any attack of torchattacks by its class name."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchattacks
from torch import Tensor

from temper.attacks.attack import Attack
from temper.attacks.gradient_step import step_length
from temper.attacks.network_state import Mode, probing
from temper.attacks.threat import Threat
from temper.config.types import Positive, checked
from temper.data.batch import Batch
from temper.models.network import Network

NORM_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


class TorchAttack(Attack):
    """An attack of torchattacks (Kim 2020, https://arxiv.org/abs/2010.01950) inside our threat set, for images in [0, 1].

    Its eps, norm, step size (PGD's, where it takes an alpha) and seed come from the threat and from our keyed randomness. What
    it returns is projected onto the set, so that a minimal-norm attack (CW, DeepFool) counts only as far as it stays inside.
    torchattacks takes hard labels alone.

    Args:
        threat: the set that x' stays in; its range must be [0, 1].
        attack: class in `torchattacks`, such as APGD or MIFGSM.
        eps: another radius than the threat's.
        options: further arguments of that class.
        mode: of the network while it is attacked.

    Raises:
        ValueError: no such class, an option that it does not take, or another norm than the threat's.
    """

    @checked
    def __init__(
        self,
        *,
        threat: Threat,
        attack: str,
        eps: Positive | None = None,
        options: Mapping[str, Any] | None = None,
        mode: Mode = "eval",
    ) -> None:
        super().__init__()
        self.threat = threat.at(eps)
        if (threat.lower, threat.upper) != (0, 1):
            raise ValueError(f"threat: torchattacks works on inputs in [0, 1], not [{threat.lower:g}, {threat.upper:g}]")
        engine = getattr(torchattacks, attack, None)
        if not (inspect.isclass(engine) and issubclass(engine, torchattacks.attack.Attack)):
            raise ValueError(f"attack: torchattacks has no attack named {attack!r}")
        self.engine: type = engine
        self.mode, self.options = mode, dict(options or {})
        self.options = self._threat_arguments() | self.options
        unknown = sorted(set(self.options) - set(inspect.signature(self.engine).parameters))
        if unknown:
            raise ValueError(f"options: torchattacks.{attack} takes no {', '.join(unknown)}")

    def _threat_arguments(self) -> dict[str, Any]:
        """eps and norm, as far as the attack takes them."""
        parameters = inspect.signature(self.engine).parameters
        given: dict[str, Any] = {"eps": self.threat.eps} if "eps" in parameters else {}
        if "alpha" in parameters and "eps" in parameters and "alpha" not in self.options:
            # Theirs is 2/255 whatever the radius.
            steps = self.options.get("steps", getattr(parameters.get("steps"), "default", 1))
            given["alpha"] = step_length(None, self.threat, steps)
        if "norm" in parameters:
            given["norm"] = NORM_NAMES[self.threat.norm]
        elif "eps" in parameters:
            fixed = "l2" if self.engine.__name__.endswith("L2") else "linf"
            if fixed != self.threat.norm:
                raise ValueError(f"attack: {self.engine.__name__} is an {fixed} attack, but the threat is {self.threat.norm}")
        return given

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        options = dict(self.options)
        if "seed" in inspect.signature(self.engine).parameters:
            options.setdefault("seed", _draw_seed())
        with probing(net, self.mode), _numpy_keyed():
            if "n_classes" in options:  # of which all but the label are targets
                with torch.no_grad():
                    options["n_classes"] = min(options["n_classes"], net(batch.x[:1]).shape[1])
            engine = self.engine(net, **options)
            return self.threat.finish(_run(engine, batch, self.mode), batch.x).detach()


def _run(engine: Any, batch: Batch, mode: Mode) -> Tensor:
    engine.set_model_training_mode(model_training=mode == "train", batchnorm_training=True, dropout_training=True)
    return engine(batch.x.float().clone(), batch.y)


def _draw_seed() -> int:
    """torchattacks seeds itself from the clock or from a constant; this draw follows the run's own key instead."""
    return int(torch.randint(2**31, ()))


class _numpy_keyed:
    """Some of torchattacks draws from numpy's global state: it follows torch's within, and is put back behind."""

    def __enter__(self) -> None:
        self.state = np.random.get_state()
        np.random.seed(_draw_seed())

    def __exit__(self, *exception: object) -> None:
        np.random.set_state(self.state)
