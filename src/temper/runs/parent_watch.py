"""Exit of worker processes when their parent process dies."""

import os
import time
from functools import cache
from threading import Thread

SWEEP_PID = "TEMPER_SWEEP"  # environment variable: process id of a sweep, for its workers


def exit_with_parent(parent: int) -> None:
    """Start a thread that ends this process once it is no longer a child of `parent`.

    Args:
        parent: process id of the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@cache
def exit_with_sweep() -> None:
    """End this process together with the sweep if it is one of the sweep's workers.

    Jobs that run in the sweep's own process or under a cluster's scheduler are not affected.
    """
    if os.environ.get(SWEEP_PID) == str(os.getppid()):
        exit_with_parent(os.getppid())
