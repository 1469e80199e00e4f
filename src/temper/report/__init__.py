"""From records to tables and figures: nothing in a report is typed by hand."""

from temper.report.pipeline import make_report

__all__ = ["make_report"]
