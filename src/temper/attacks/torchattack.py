"""Any attack of torchattacks by its class name, and the official AutoAttack made of its parts."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torchattacks
from torch import Tensor

from temper.arguments import Count, Positive, checked
from temper.attacks.attack import Attack
from temper.attacks.pgd import default_step_size
from temper.attacks.probing import Mode, probing
from temper.attacks.threat import Threat
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
        self.threat = threat if eps is None else replace(threat, eps=eps)
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
            given["alpha"] = default_step_size(self.threat, steps)
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
            engine = self.engine(net, **options)
            return self.threat.finish(_run(engine, batch, self.mode), batch.x).detach()


class AutoAttack(Attack):
    """The standard AutoAttack of Croce & Hein 2020 (https://arxiv.org/abs/2003.01690): APGD-CE, targeted APGD and FAB on
    9 targets, Square with 5,000 queries, each on the points that still stand.

    It is put together from torchattacks' parts, since torchattacks' own class of that name runs 10 steps instead of 100.

    Args:
        threat: linf or l2, inputs in [0, 1].
        steps: of APGD and FAB.
        n_queries: of Square.
    """

    version = "standard: apgd-ce, apgd-t (9 targets), fab-t (9 targets), square (torchattacks 3.5.1 parts)"

    @checked
    def __init__(self, *, threat: Threat, steps: Count = 100, n_queries: Count = 5000) -> None:
        super().__init__()
        if threat.norm not in ("linf", "l2") or (threat.lower, threat.upper) != (0, 1):
            raise ValueError("threat: AutoAttack is defined for linf and l2 on inputs in [0, 1]")
        self.threat, self.steps, self.n_queries = threat, steps, n_queries

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, "eval"):
            with torch.no_grad():
                classes = net(batch.x[:1]).shape[1]
            if classes < 4:
                raise ValueError(f"autoattack needs at least 4 classes for its targeted DLR loss; this network has {classes}")
            shared: dict[str, Any] = {
                "norm": NORM_NAMES[self.threat.norm],
                "eps": self.threat.eps,
                "seed": _draw_seed(),
            }
            targets = min(classes, 10)
            parts = [
                torchattacks.APGD(net, loss="ce", steps=self.steps, **shared),
                torchattacks.APGDT(net, steps=self.steps, n_classes=targets, **shared),
                torchattacks.FAB(net, steps=self.steps, multi_targeted=True, n_classes=targets, **shared),
                torchattacks.Square(net, n_queries=self.n_queries, resc_schedule=False, **shared),
            ]
            x_adv = _run(torchattacks.MultiAttack(parts), batch, "eval")
            return self.threat.finish(x_adv, batch.x).detach()


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
