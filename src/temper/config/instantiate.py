"""Build the objects that a composed config describes, with errors that name the key."""

import re
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException
from pydantic import ValidationError

from temper.config.errors import ConfigError, explain_arguments, first_line


def build(config: DictConfig, key: str, *, without: tuple[str, ...] = (), **extra: Any) -> Any:
    """Build the object that `config[key]` describes by its `_target_`.

    Args:
        config: the composed config.
        key: dotted key of the object.
        without: entries that other parts of the config refer to and that are no arguments.
        **extra: further arguments.

    Raises:
        ConfigError: an argument is wrong, missing or unknown, or an interpolation leads nowhere.
    """
    try:
        node = OmegaConf.select(config, key)
        if not isinstance(node, DictConfig):
            raise ConfigError(f"{key}: should be an object with a _target_, not {node!r}")
        arguments = {name: node[name] for name in node if name not in without}
        spec = OmegaConf.create(arguments)
        spec._set_parent(node._get_parent())
        spec._set_key(node._key())
        return instantiate(spec, **extra)
    except InstantiationException as error:
        raise ConfigError(_explain(error, key)) from error
    except ConfigError:
        raise
    except InterpolationKeyError as error:
        raise ConfigError(f"{key}: {first_line(error)}: it is not made for what the config has there") from error
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{key}: {first_line(error)}") from error


def _explain(error: InstantiationException, key: str) -> str:
    match = re.search(r"full_key: (\S+)", str(error))
    key = match[1] if match else key
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return "\n".join(explain_arguments(cause, key))
    if isinstance(cause, ValueError | TypeError):
        return f"{key}.{cause}" if re.match(r"\w+: ", str(cause)) else f"{key}: {cause}"
    return f"{key}: {first_line(cause or error)}"
