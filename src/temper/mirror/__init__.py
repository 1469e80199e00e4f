"""What W&B shows of runs and studies: a mirror of records and curves, and never their source."""

from temper.mirror.final import contact_sheet
from temper.mirror.logger import Mirror

__all__ = ["Mirror", "contact_sheet"]
