"""The whole study on one page: one HTML file that opens without a network, sorts, filters and prints."""

from temper.report.page.interactive_scatter import chart
from temper.report.page.kind_cards import infographic
from temper.report.page.page import Contents, render
from temper.report.page.reproduce import origin

__all__ = ["Contents", "chart", "infographic", "origin", "render"]
