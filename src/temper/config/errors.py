"""Errors of a user, and how they are put into words."""

import errno
import re

from omegaconf.errors import InterpolationResolutionError


def explain(error: BaseException) -> str:
    """An error in a line or two, with the file and the way out where the system's own message lacks them."""
    if isinstance(error, OSError) and error.filename:
        way_out = ""
        if error.errno in (errno.EACCES, errno.ENOTDIR, errno.EROFS, errno.EEXIST):
            way_out = "; choose another folder: paths.outputs=…, paths.results=… or paths.data=…"
        elif error.errno == errno.ENOSPC:
            way_out = "; free some space, and the same command goes on"
        return f"{error.filename}: {error.strerror}{way_out}"
    if isinstance(error, InterpolationResolutionError):
        # What a resolver raised, without OmegaConf's words around it.
        return re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error)).splitlines()[0]
    return str(error).strip() or type(error).__name__


class ConfigError(ValueError):
    """A value in the config is wrong; the message names the key, the value and what would be right."""
