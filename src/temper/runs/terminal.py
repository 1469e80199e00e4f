"""Terminal output of all commands: the console, durations, and quieter libraries."""

import logging
import sys
import warnings

from rich.console import Console

# A file is as wide as it takes; a terminal has its own width.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def say(text: object) -> None:
    """A line, or a rich renderable, on standard output."""
    console.print(text, markup=False)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def quieten() -> None:
    """Lightning's advice on hardware, workers and logging intervals does not apply here."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written (a full disk) is no second error
    for message in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.*",
        ".*`srun` command is available.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # metrics are summed over devices before they are logged
    ):
        warnings.filterwarnings("ignore", message)
