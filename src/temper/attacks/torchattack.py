"""Adapter to the attacks of torchattacks."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    """Attack of torchattacks (Kim 2020, https://arxiv.org/abs/2010.01950) by its class name, for images in [0, 1].

    Its eps and norm come from the threat, its step size (if it takes an alpha) is PGD's, and its seed comes from the run's
    keyed randomness. The result is projected onto the perturbation set, so a minimal-norm attack (CW, DeepFool) succeeds only
    inside of it. torchattacks uses hard labels only.

    Args:
        threat: the perturbation set; its valid range must be [0, 1].
        attack: class in `torchattacks`, such as APGD or MIFGSM.
        eps: overrides the radius of `threat`.
        options: further arguments of that class.
        mode: mode of the network during the attack.

    Raises:
        ValueError: The class does not exist, does not take an option, or has another norm than the threat.
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
        self.threat = threat.with_eps(eps)
        if (threat.lower, threat.upper) != (0, 1):
            raise ValueError(
                f"threat: the valid range is [{threat.lower:g}, {threat.upper:g}], but torchattacks needs inputs in [0, 1]. "
                "Use another attack."
            )
        engine = getattr(torchattacks, attack, None)
        if not (inspect.isclass(engine) and issubclass(engine, torchattacks.attack.Attack)):
            raise ValueError(f"attack: torchattacks has no attack named {attack!r}. Use one of its classes, such as APGD.")
        self.engine: type = engine
        self.mode, self.options = mode, dict(options or {})
        self.options = self._threat_options() | self.options
        unknown = sorted(set(self.options) - set(inspect.signature(self.engine).parameters))
        if unknown:
            raise ValueError(f"options: torchattacks.{attack} takes no {', '.join(unknown)}. Remove it.")

    def _threat_options(self) -> dict[str, Any]:
        """Return eps, step size and norm, as far as the attack takes them."""
        parameters = inspect.signature(self.engine).parameters
        options: dict[str, Any] = {"eps": self.threat.eps} if "eps" in parameters else {}
        if "alpha" in parameters and "eps" in parameters and "alpha" not in self.options:
            # The default of torchattacks is 2/255 at any radius.
            steps = self.options.get("steps", getattr(parameters.get("steps"), "default", 1))
            options["alpha"] = step_length(None, self.threat, steps)
        if "norm" in parameters:
            options["norm"] = NORM_NAMES[self.threat.norm]
        elif "eps" in parameters:
            norm = "l2" if self.engine.__name__.endswith("L2") else "linf"
            if norm != self.threat.norm:
                raise ValueError(
                    f"attack: {self.engine.__name__} is an {norm} attack, but the threat is {self.threat.norm}. Use a threat "
                    "of its norm, or another attack."
                )
        return options

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        options = dict(self.options)
        if "seed" in inspect.signature(self.engine).parameters:
            options.setdefault("seed", _draw_seed())
        with probing(net, self.mode), _numpy_seeded():
            if "n_classes" in options:  # all classes but the label are targets
                with torch.no_grad():
                    options["n_classes"] = min(options["n_classes"], net(batch.x[:1]).shape[1])
            engine: Any = self.engine(net, **options)
            engine.set_model_training_mode(model_training=self.mode == "train", batchnorm_training=True, dropout_training=True)
            return self.threat.finish(engine(batch.x.float().clone(), batch.y), batch.x).detach()


def _draw_seed() -> int:
    """Draw a seed from torch's generator, which follows the run's key; torchattacks would use the clock or a constant."""
    return int(torch.randint(2**31, ()))


@contextmanager
def _numpy_seeded() -> Iterator[None]:
    """Seed numpy's global state, which some attacks of torchattacks draw from, by torch's generator; restore it on exit."""
    state = np.random.get_state()
    np.random.seed(_draw_seed())
    try:
        yield
    finally:
        np.random.set_state(state)
