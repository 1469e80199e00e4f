"""The whole study on one page: one HTML file that opens without a network, sorts, filters and prints."""

from temper.report.page.infographic import infographic
from temper.report.page.origin import origin
from temper.report.page.page import Contents, render
from temper.report.page.plane import chart

__all__ = ["Contents", "chart", "infographic", "origin", "render"]
