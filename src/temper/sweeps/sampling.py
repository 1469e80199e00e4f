"""Budget and sampler of a search: number of trials, their seeds, and a reproducible Optuna sampler."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import optuna
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import TypeAdapter, ValidationError

from temper.config.errors import ConfigError, explain_arguments, first_line
from temper.config.types import Count
from temper.sweeps.trial import Seeds, parse_list

KEY = "hydra.sweeper.search"
TPE = {"_target_": "optuna.samplers.TPESampler", "seed": 0}
EXAMPLE = f"'{KEY}={{n_trials:24,n_jobs:4,seed:[100,101]}}'"


class SearchBudget(NamedTuple):
    """Budget of a search.

    Attributes:
        trials: number of trials.
        concurrent: number of trials that are suggested before the results of the first are reported to Optuna.
        seeds: of each trial.
        sampler: `_target_` and arguments of an Optuna sampler.
    """

    trials: int
    concurrent: int
    seeds: list[int]
    sampler: dict[str, Any]

    @classmethod
    def of(cls, search: Any) -> "SearchBudget":
        """Parse `hydra.sweeper.search`.

        Args:
            search: the mapping from the config.

        Raises:
            ConfigError: a key is unknown or missing, or a value is wrong.
        """
        keys = {"n_trials", "n_jobs", "seed", "sampler"}
        if not isinstance(search, Mapping) or not {"n_trials", "seed"} <= set(search) <= keys:
            given = ", ".join(map(str, search)) if isinstance(search, Mapping) else repr(search)
            raise ConfigError(
                f"{KEY}: needs the keys n_trials and seed, and accepts only n_jobs and sampler besides (got "
                f"{given or 'none'}). Set {EXAMPLE}, or {KEY}=null for no search. The two objectives are fixed: clean and "
                "robust accuracy on the validation split, both maximized."
            )
        counts = {}
        for key in ("n_trials", "n_jobs"):
            try:
                counts[key] = TypeAdapter(Count).validate_python(search.get(key, 1))
            except ValidationError as error:
                raise ConfigError(f"{'; '.join(explain_arguments(error, f'{KEY}.{key}'))}. Example: {KEY}.{key}=4") from None
        seeds = parse_list(search["seed"], Seeds, f"{KEY}.seed", "[100,101]")
        return cls(counts["n_trials"], counts["n_jobs"], seeds, dict(search.get("sampler") or TPE))

    def study(self) -> optuna.Study:
        """Return an empty in-memory study with two objectives.

        Raises:
            ConfigError: the sampler does not exist, does not accept an argument, or is not reproducible.
        """
        spec, key = self.sampler, f"{KEY}.sampler"
        name = str(spec.get("_target_")).rpartition(".")[2]
        if name in ("GridSampler", "BruteForceSampler"):
            raise ConfigError(f"{key}: {name} is a grid. Write its values as axes of a grid, and set {KEY}=null.")
        if type(spec.get("seed")) is not int:
            raise ConfigError(
                f"{key}.seed should be a whole number (got {spec.get('seed')!r}): a search can only be resumed with a fixed "
                "seed"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                sampler = instantiate(spec)
        except InstantiationException as error:
            reason = first_line(error.__cause__ or error)
            raise ConfigError(f"{key}: {reason}. Example: {key}={{_target_:{TPE['_target_']},seed:0}}") from None
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise ConfigError(f"{key}: {spec.get('_target_')} is not an Optuna sampler. Example: {TPE['_target_']}")
        optuna.logging.set_verbosity(logging.WARNING)
        return optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)

    @property
    def sampler_description(self) -> str:
        """Version of Optuna, name and arguments of the sampler."""
        arguments = [f"{key}={value}" for key, value in sorted(self.sampler.items()) if key != "_target_"]
        name = str(self.sampler["_target_"]).rpartition(".")[2]
        return f"Optuna {optuna.__version__}, {name} ({', '.join(arguments)})"
