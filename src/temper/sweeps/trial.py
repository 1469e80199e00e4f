"""Runs of a tuning or a search: trained in a separate study and compared on the validation split.

They never use the test set, so the selection of settings is independent of it.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import TypeAdapter, ValidationError

from temper.config.errors import ConfigError, explain_arguments
from temper.runs.jobs import Job
from temper.runs.record import RunRecord

Seeds = Annotated[list[int], MinLen(1)]


def selection_overrides(study: str) -> list[str]:
    """Return the overrides of a run that only serves selection: it is not evaluated and keeps no checkpoint.

    Args:
        study: name of its study.
    """
    return [f"study={study}", "evaluation.checkpoints=[]", "keep_checkpoints=[]"]


def parse_list(given: Any, kind: Any, key: str, example: str) -> list[Any]:
    """Return the distinct values of a list in ascending order.

    Args:
        given: a list, a single value, or text separated by commas.
        kind: type of the list.
        key: of the list in the config.
        example: of a valid list, for the error.

    Raises:
        ConfigError: the list is empty, or a value has the wrong type.
    """
    given = given.split(",") if isinstance(given, str) else given
    try:
        return sorted(set(TypeAdapter(kind).validate_python(given if isinstance(given, list) else [given])))
    except ValidationError as error:
        problems = "\n".join(explain_arguments(error, key))
        raise ConfigError(f"{problems}. Example: '{key}={example}'") from None


def seed_overlap_warnings(report_seeds: Iterable[int], selection_seeds: Iterable[int], key: str) -> list[str]:
    """Return a warning if a seed is used both for selection and in the report.

    Args:
        report_seeds: of the reported runs.
        selection_seeds: of the tuning or search.
        key: of the tuning or search in the config.
    """
    both = ", ".join(map(str, sorted({*report_seeds} & {*selection_seeds})))
    return [f"seed {both} is used both for selection and in the report, which biases it; set {key}.seed"] if both else []


def ended_record(job: Job) -> RunRecord | None:
    """Return the record of a run that is finished or failed; None if it has not ended."""
    try:
        record = RunRecord.read(job.folder)
    except (FileNotFoundError, ValueError):
        return None
    return record if record.has(job.suite) or record.error else None


def validation_scores(runs: Sequence[RunRecord], metric: str) -> list[float] | None:
    """Return the value of a validation metric for the final weights of each run; None if any run failed.

    Args:
        runs: records of one setting with different seeds.
        metric: name of a validation curve.
    """
    return None if any(run.error for run in runs) else [run.curves[metric][run.epoch] for run in runs]
