"""Processes that end with the one that started them: nobody would wait for them, and few would think of looking for them."""

import os
import time
from functools import cache
from threading import Thread

SWEEP = "TEMPER_SWEEP"  # the process of a sweep, in the environment of its workers


def exit_with_parent(parent: int) -> None:
    """End this process once its parent, which has this number, is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@cache
def exit_with_sweep() -> None:
    """For a job: end with a sweep whose worker this process is. It may be the sweep itself, or a job of a cluster."""
    if os.environ.get(SWEEP) == str(os.getppid()):
        exit_with_parent(os.getppid())
