"""Runs that choose: trained in a study of their own beside the one they choose for, and judged on the validation split.

They never look at the test set, so that what they choose owes nothing to it.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import TypeAdapter, ValidationError

from temper.config.errors import ConfigError
from temper.config.instantiate import explain_arguments
from temper.runs.jobs import Job
from temper.runs.record import RunRecord

Seeds = Annotated[list[int], MinLen(1)]


def settings(study: str) -> list[str]:
    """The overrides by which a run only chooses: it is neither evaluated nor kept."""
    return [f"study={study}", "evaluation.checkpoints=[]", "keep_checkpoints=[]"]


def values_of(given: Any, kind: Any, key: str, example: str) -> list[Any]:
    """A list, or text separated by commas as axes are typed: ascending, each value once.

    Raises:
        ConfigError: it is empty, or holds something else than `kind` says.
    """
    given = given.split(",") if isinstance(given, str) else given
    try:
        return sorted(set(TypeAdapter(kind).validate_python(given if isinstance(given, list) else [given])))
    except ValidationError as error:
        wrong = "\n".join(explain_arguments(error, key))
        raise ConfigError(f"{wrong}; such as '{key}={example}'") from None


def both_seeds(reported: Iterable[int], choosing: Iterable[int], key: str) -> list[str]:
    """A warning where a seed both chooses and is reported."""
    both = ", ".join(map(str, sorted({*reported} & {*choosing})))
    return [f"seed {both} is tuned with and reported: choosing favours it; set {key}.seed"] if both else []


def record_of(job: Job) -> RunRecord | None:
    """What a run left behind: finished, or failed with its error; None where it has not ended."""
    try:
        record = RunRecord.read(job.folder)
    except (FileNotFoundError, ValueError):
        return None
    return record if record.has(job.suite) or record.error else None


def scores(runs: Sequence[RunRecord], metric: str) -> list[float] | None:
    """What each run's weights reached on the validation split; None where any of them failed, whatever the others say."""
    return None if any(run.error for run in runs) else [run.curves[metric][run.epoch] for run in runs]
