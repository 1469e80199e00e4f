"""Exit codes and error messages of the commands."""

import os
import sys
from collections.abc import Callable

from hydra.errors import CompactHydraException
from omegaconf.errors import OmegaConfBaseException

from temper.cli.hydra_errors import reword
from temper.config.errors import explain
from temper.runs.lock import LockLost


def run(main: Callable[[], object]) -> None:
    """Run a Hydra main function and exit with its status; print a user's error in one or two lines.

    Hydra prints errors itself unless HYDRA_FULL_ERROR=1, which makes it raise them. A user who sets HYDRA_FULL_ERROR=1 gets the
    full traceback.

    Args:
        main: the decorated function of a command.

    Raises:
        SystemExit: the command was interrupted or the user made a mistake; the message goes to standard error.
    """
    full_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted. Run the same command again to resume.")
    except (CompactHydraException, OmegaConfBaseException, ValueError, OSError, FloatingPointError, LockLost) as error:
        if full_traceback:
            raise
        if message := reword(str(error)):
            sys.exit(f"error: {message}")
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        sys.exit("\n".join(["error: " + explain(error), *([str(cause)] if cause else [])]))
