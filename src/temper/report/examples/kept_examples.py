"""Test examples in a form that can be read, as evaluations kept them: how each kind of network takes them under its attack."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from temper.config.errors import explain
from temper.report.records.representatives import Pick
from temper.runs.record import outcomes_file, outcomes_path

SHOWN = 4  # examples

Form = TypeVar("Form")  # in which an example can be read
Arrays = Mapping[str, np.ndarray]
Read = Callable[[Arrays, str], Sequence[Form]]  # the kept examples, "clean" or as an attack left them


class Prediction(NamedTuple):
    """What an example is taken for: the class, whether that is right, and the probability of the true class."""

    label: int
    right: bool
    probability: float

    def __str__(self) -> str:
        return f"{self.label} {'✓' if self.right else '✗'} {100 * self.probability:.0f} %"


class ExamplePrediction(NamedTuple, Generic[Form]):
    """An example as one network sees it.

    Attributes:
        title: of the network.
        made: what its attack made of the example; None: it left it as it was.
        before, after: what it is taken for.
    """

    title: str
    made: Form | None
    before: Prediction
    after: Prediction


class Example(NamedTuple, Generic[Form]):
    """A test example, its label, and how each network reads it."""

    original: Form
    label: int
    readings: Sequence[ExamplePrediction[Form]]

    @property
    def fooled(self) -> int:
        """How many networks are right before, and wrong after."""
        return sum(reading.before.right and not reading.after.right for reading in self.readings)

    @property
    def changed(self) -> int:
        """For how many networks it was changed."""
        return sum(reading.made is not None for reading in self.readings)


def kept_examples(
    picks: Sequence[Pick], suites: Sequence[str], checkpoint: str, form: str, read: Read[Form]
) -> tuple[list[Example[Form]], list[str]]:
    """Examples that the evaluations of these runs kept in a form, first those that fooled most of them; none where they have it
    not. And a line for each file that is damaged.

    Args:
        suites: of each run, the key of the evaluation.
        form: what it is called in the file, `texts` or `rows`.
    """
    found: dict[int, Example[Form]] = {}
    problems = []
    for pick, suite in zip(picks, suites, strict=True):
        try:
            kept = _kept(pick, suite, checkpoint, form, read)
        except Exception as error:  # whatever a damaged file raises
            problems.append(f"examples of {pick.title} are left out: {explain(error)}".replace("\n", " "))
            continue
        for row, example in kept.items():
            before = found[row].readings if row in found else []
            found[row] = example._replace(readings=[*before, *example.readings])
    shown = sorted(found.values(), key=lambda example: (-example.fooled, -example.changed))
    return shown[:SHOWN], problems


def _kept(pick: Pick, suite: str, checkpoint: str, form: str, read: Read[Form]) -> dict[int, Example[Form]]:
    """By row of the test set, under the attack that left the least accuracy of those that the form tells of."""
    if not outcomes_path(pick.folder, suite, checkpoint).is_file():
        return {}
    arrays = outcomes_file(pick.folder, suite, checkpoint)
    attacks = [name for name in pick.record.attacks(suite) if f"{form}/{name}" in arrays]
    if not attacks:
        return {}
    metrics = pick.record.evaluations[suite]["checkpoints"][checkpoint]["metrics"]
    attack = min(attacks, key=lambda name: metrics[f"test/{name}"])
    title = f"{pick.title} under {attack}".replace("\n", ": ", 1).replace("\n", " ")
    found: dict[int, Example[Form]] = {}
    for row, clean, made in zip(arrays["examples"], read(arrays, "clean"), read(arrays, attack), strict=True):
        reading = ExamplePrediction(
            title, None if made == clean else made, _taken(arrays, "clean", row), _taken(arrays, attack, row)
        )
        found[int(row)] = Example(clean, int(arrays["y"][row]), [reading])
    return found


def _taken(arrays: Arrays, name: str, row: int) -> Prediction:
    label = int(arrays[f"{name}_prediction"][row])
    # Cross-entropy is minus the logarithm of the true class's probability.
    return Prediction(label, label == arrays["y"][row], float(np.exp(-float(arrays[f"{name}_loss"][row]))))
