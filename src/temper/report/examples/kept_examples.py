"""Kept test examples with the predictions of one network of each kind, before and after its attack."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from temper.config.errors import explain
from temper.report.records.representatives import RepresentativeRun
from temper.runs.record import load_outcomes, outcomes_path

MAX_EXAMPLES = 4

Input = TypeVar("Input")  # readable form of an input, such as a text
Arrays = Mapping[str, np.ndarray]
Reader = Callable[[Arrays, str], Sequence[Input]]  # returns the kept inputs, "clean" or as perturbed by an attack


class Prediction(NamedTuple):
    """A predicted class.

    Attributes:
        label: predicted class.
        correct: the predicted class is the true one.
        probability: probability of the true class.
    """

    label: int
    correct: bool
    probability: float

    def __str__(self) -> str:
        return f"{self.label} {'✓' if self.correct else '✗'} {100 * self.probability:.0f} %"


class ExamplePrediction(NamedTuple, Generic[Input]):
    """Predictions of one network for one example.

    Attributes:
        title: name of the network and its attack.
        perturbed: the input after the attack; None if it is unchanged.
        before, after: predictions without and with the attack.
    """

    title: str
    perturbed: Input | None
    before: Prediction
    after: Prediction


class Example(NamedTuple, Generic[Input]):
    """A test example with its label and the predictions of each network."""

    original: Input
    label: int
    predictions: Sequence[ExamplePrediction[Input]]

    @property
    def n_fooled(self) -> int:
        """Number of networks that are correct before the attack and wrong after it."""
        return sum(prediction.before.correct and not prediction.after.correct for prediction in self.predictions)

    @property
    def n_changed(self) -> int:
        """Number of networks whose attack changed the input."""
        return sum(prediction.perturbed is not None for prediction in self.predictions)


def kept_examples(
    runs: Sequence[RepresentativeRun], suites: Sequence[str], checkpoint: str, form: str, read: Reader[Input]
) -> tuple[list[Example[Input]], list[str]]:
    """Return the examples that the evaluations of these runs kept, those that fooled most networks first.

    Args:
        runs: one run of each kind.
        suites: key of each run's evaluation.
        checkpoint: evaluated checkpoint.
        form: prefix of the inputs in the outcomes file, `texts` or `rows`.
        read: function that reads the inputs from the file.

    Returns:
        At most `MAX_EXAMPLES` examples, none if the files have no inputs of this form; and a message for each damaged file.
    """
    examples: dict[int, Example[Input]] = {}
    problems = []
    for run, suite in zip(runs, suites, strict=True):
        try:
            kept = _kept_by_run(run, suite, checkpoint, form, read)
        except Exception as error:  # a damaged file may raise anything
            problems.append(f"examples of {run.title} are left out: {explain(error)}".replace("\n", " "))
            continue
        for index, example in kept.items():
            previous = examples[index].predictions if index in examples else []
            examples[index] = example._replace(predictions=[*previous, *example.predictions])
    ordered = sorted(examples.values(), key=lambda example: (-example.n_fooled, -example.n_changed))
    return ordered[:MAX_EXAMPLES], problems


def _kept_by_run(
    run: RepresentativeRun, suite: str, checkpoint: str, form: str, read: Reader[Input]
) -> dict[int, Example[Input]]:
    """Return the examples by index in the test set, under the attack of this form that left the lowest accuracy."""
    if not outcomes_path(run.folder, suite, checkpoint).is_file():
        return {}
    arrays = load_outcomes(run.folder, suite, checkpoint)
    attacks = [name for name in run.record.attacks(suite) if f"{form}/{name}" in arrays]
    if not attacks:
        return {}
    metrics = run.record.evaluations[suite]["checkpoints"][checkpoint]["metrics"]
    attack = min(attacks, key=lambda name: metrics[f"test/{name}"])
    title = f"{run.title} under {attack}".replace("\n", ": ", 1).replace("\n", " ")
    examples: dict[int, Example[Input]] = {}
    for index, clean, attacked in zip(arrays["examples"], read(arrays, "clean"), read(arrays, attack), strict=True):
        prediction = ExamplePrediction(
            title,
            None if attacked == clean else attacked,
            _prediction(arrays, "clean", index),
            _prediction(arrays, attack, index),
        )
        examples[int(index)] = Example(clean, int(arrays["y"][index]), [prediction])
    return examples


def _prediction(arrays: Arrays, name: str, index: int) -> Prediction:
    label = int(arrays[f"{name}_prediction"][index])
    # Cross-entropy is minus the logarithm of the true class's probability.
    return Prediction(label, label == arrays["y"][index], float(np.exp(-float(arrays[f"{name}_loss"][index]))))
