"""How the commands speak of errors: a line or two for a user's mistake, a traceback for ours."""

import os
import sys
from collections.abc import Callable

from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

from temper.config.errors import explain
from temper.runs.lock import LockLost


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
    except (CompactHydraException, OmegaConfBaseException, ValueError, OSError, FloatingPointError, LockLost) as error:
        if everything:
            raise
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        sys.exit("\n".join(["error: " + explain(error), *([str(cause)] if cause else [])]))
