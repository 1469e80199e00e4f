"""Terminal output of all commands: console, durations, silenced library messages."""

import logging
import sys
import warnings

from rich.console import Console

# Output that is redirected to a file has a fixed width; a terminal reports its own.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


def say(text: object) -> None:
    """Print a line or a rich renderable on standard output."""
    console.print(text, markup=False)


def duration(seconds: float) -> str:
    """Format a duration, e.g. "2 h 05 min", "3 min 07 s" or "12 s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def quiet_libraries() -> None:
    """Silence Lightning's advice on hardware, workers and logging intervals, which does not apply here."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written (full disk) prints no additional traceback
    for message in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*exists and is not empty.*",
        ".*LeafSpec.*",
        ".*`srun` command is available.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # metrics are summed over devices before they are logged
    ):
        warnings.filterwarnings("ignore", message)
