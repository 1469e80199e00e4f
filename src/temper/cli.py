"""How the commands speak of errors: a line or two for a user's mistake, a traceback for ours."""

import errno
import os
import re
import sys
from collections.abc import Callable

from hydra.errors import CompactHydraException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from temper.claims import ClaimLost


def run(main: Callable[[], object]) -> None:
    """Run a Hydra main function and end the process with its status.

    Hydra prints errors itself unless HYDRA_FULL_ERROR is set; with it they come to us. A user who sets it sees everything.
    """
    everything = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on where this one stopped")
    except (CompactHydraException, OmegaConfBaseException, ValueError, OSError, FloatingPointError, ClaimLost) as error:
        if everything:
            raise
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        sys.exit("\n".join(["error: " + explain(error), *([str(cause)] if cause else [])]))


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
