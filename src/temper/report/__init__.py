"""From records to tables and figures: nothing in a report is typed by hand."""

from temper.report.make import make_report

__all__ = ["make_report"]
