"""The final evaluation of a trained network: the only place that touches the test set."""

from collections.abc import Mapping
from typing import NamedTuple

from omegaconf import DictConfig

from temper.attacks import Attack, Threat
from temper.build import build
from temper.config import ConfigError
from temper.data import DataModule
from temper.evaluation.metrics import accuracies, gaps, sensitivities, weight_statistics
from temper.evaluation.outcomes import Outcomes, attack_all
from temper.models import Network


class Suite(NamedTuple):
    """Named attacks, independent of the training attack.

    Attributes:
        attacks: every one runs on every point of the test set.
        threat: the set that they stay in.
        gap_attack: measures the robust generalization gap and the sensitivity; the validation attack of training.
        batch_size: of the evaluation.
    """

    attacks: Mapping[str, Attack]
    threat: Threat
    gap_attack: Attack
    batch_size: int

    @classmethod
    def of(cls, config: DictConfig) -> "Suite":
        if not config.evaluation.attacks:
            raise ConfigError("evaluation.attacks: a suite needs at least one attack")
        return cls(
            attacks={str(name): build(config, f"evaluation.attacks.{name}") for name in config.evaluation.attacks},
            threat=build(config, "evaluation.threat"),
            gap_attack=build(config, "validation", without=("name",)),
            batch_size=config.evaluation.batch_size,
        )


def evaluate(
    net: Network, suite: Suite, data: DataModule, *, seed: int, device: str = "cpu"
) -> tuple[Outcomes, dict[str, float]]:
    """Outcomes on the test set, and every metric of one checkpoint by its name in tables (`test/pgd`, `gap/robust`, …)."""
    net = net.to(device)
    test = data.loader("test", batch_size=suite.batch_size, device=device)
    outcomes = attack_all(net, suite.attacks, test, seed=seed)
    # As many training examples as there are test examples, in a fixed order: enough for a gap, at the cost of no more.
    train = data.loader("train", batch_size=suite.batch_size, device=device, size=len(test.y))
    gap_attack = {"gap": suite.gap_attack}
    gap = gaps(
        accuracies(attack_all(net, gap_attack, train, seed=seed)),
        accuracies(attack_all(net, gap_attack, test, seed=seed)),
        "gap",
    )
    measured = {
        "test": accuracies(outcomes) | sensitivities(net, suite.gap_attack, suite.threat, test, seed=seed),
        "gap": gap,
        "weights": weight_statistics(net),
    }
    metrics = {f"{group}/{name}": value for group, values in measured.items() for name, value in values.items()}
    return outcomes, metrics
