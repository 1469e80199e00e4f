"""Hydra's errors about the command line in one line, with the nearest right value."""

import re
import sys
from pathlib import Path

from omegaconf import OmegaConf

from temper.config.composed import CONF
from temper.config.errors import did_you_mean

NO_OPTION = re.compile(
    r"Could not find '([\w/]+)/([^'/]+)'\s+Available options in '[\w/]+':\s+(.*?)\s+Config search path", re.DOTALL
)
NOT_LOADED = re.compile(r"Could not load '([\w/]+)/([^'/]+)'")  # one of a list
NO_KEY = re.compile(r"Could not override '([^']+)'")
NULL_GROUP = "Config group override must be a string or a list"


def reword(message: str) -> str | None:
    """Return a plainer message for an error that a user can fix, or None for any other.

    Args:
        message: Hydra's message.
    """
    if match := NO_OPTION.search(message):
        group, option, options = match[1], match[2], match[3].split()
        return f"{group}={option}: there is no such option.{did_you_mean(option, options, most=40)}"
    if match := NOT_LOADED.search(message):
        group, option = match.groups()
        options = sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))
        return f"{group}={option}: there is no such option.{did_you_mean(option, options, most=40)}"
    if match := NO_KEY.search(message):
        return _unknown_key(match[1])
    return _null_group() if NULL_GROUP in message else None


def _unknown_key(key: str) -> str:
    root, _, rest = key.partition(".")
    if not rest:
        return f"{key}: there is no such key.{did_you_mean(root, _root_keys(), most=0)}"
    return f"{key}: this config has no such key. --cfg job prints the keys; +{key}=… adds one that the class takes."


def _root_keys() -> list[str]:
    """Return the groups of conf/ and the root keys of the commands' configs."""
    folder = Path(CONF)
    groups = [path.name for path in folder.iterdir() if path.is_dir()]
    keys = [key for path in folder.glob("*.yaml") for key in map(str, OmegaConf.load(path)) if key != "defaults"]
    return sorted({*groups, *keys})


def _null_group() -> str:
    """Return the message for a group that is set to null or to nothing."""
    for argument in sys.argv[1:]:
        group, _, option = argument.partition("=")
        if option in ("null", "", "~") and (Path(CONF) / group).is_dir():
            options = sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))
            hint = f" Use {group}=none for none." if "none" in options else f" Choose one of {', '.join(options)}."
            return f"{group}={option or 'nothing'}: should be an option of the group.{hint}"
    return "a group is set to null: should be one of its options."
