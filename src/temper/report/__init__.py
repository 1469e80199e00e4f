"""Reports of studies: tables, figures, statistics and verdicts on claims, made from records alone."""

from temper.report.pipeline import make_report

__all__ = ["make_report"]
