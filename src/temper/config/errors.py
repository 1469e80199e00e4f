"""Errors that a user can fix, and their wording."""

import errno
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from omegaconf.errors import InterpolationResolutionError
from pydantic import ValidationError


class ConfigError(ValueError):
    """Raised for a wrong value in the config; the message names the key, the value and the fix."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def explain(error: BaseException) -> str:
    """Return an error in one or two lines, with the file and the fix where the system's own message lacks them."""
    if isinstance(error, OSError) and error.filename:
        fix = ""
        if error.errno in (errno.EACCES, errno.ENOTDIR, errno.EROFS, errno.EEXIST):
            fix = "; choose another folder: paths.outputs=…, paths.results=… or paths.data=…"
        elif error.errno == errno.ENOSPC:
            fix = "; free some space and run the same command again to continue"
        return f"{error.filename}: {error.strerror}{fix}"
    if isinstance(error, InterpolationResolutionError):
        # The message that the resolver raised, without OmegaConf's words around it.
        message = re.sub(r"^(\w+ raised while resolving interpolation: )+", "", str(error))
        return re.sub(r"\n\s+full_key: .*", "", message, flags=re.DOTALL)
    return str(error).strip() or type(error).__name__


def explain_arguments(error: ValidationError, key: str) -> list[str]:
    """Return one line for each wrong argument: its key, the expected value and the value that was given."""
    lines = []
    for problem in error.errors():
        argument = ".".join([key, *(str(part) for part in problem["loc"])])
        message = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
        if problem["type"] == "unexpected_keyword_argument":
            message = "is not a setting of this option"
        elif problem["type"] in ("missing_argument", "missing_keyword_only_argument", "missing"):
            message = "is missing"
        elif not isinstance(problem["input"], Mapping) and type(problem["input"]).__name__ != "ArgsKwargs":
            message += f" (got {problem['input']!r})"
        separator = " " if message.startswith(("is ", "should ")) else ": "
        lines.append(f"{argument}{separator}{message}")
    return lines


def did_you_mean(name: str, known: Sequence[str], *, most: int = 12) -> str:
    """Return a suggestion for a mistyped name.

    Args:
        name: as it was typed.
        known: right names.
        most: list the right names if none is near and they are no more than this.
    """
    near = (
        get_close_matches(name, known, n=1, cutoff=0.5 if len(name) <= 3 else 0.6)
        or [other for other in known if name and name in other][:1]
    )
    if near:
        return f" Did you mean {near[0]}?"
    return f" There are: {', '.join(sorted(known))}." if 0 < len(known) <= most else ""
