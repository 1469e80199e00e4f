"""Report page: a single HTML file with sortable tables and charts that works offline."""

from temper.report.page.interactive_scatter import scatter_chart
from temper.report.page.kind_cards import build_cards
from temper.report.page.page import PageContents, render_page
from temper.report.page.reproduce import reproduction_info

__all__ = ["PageContents", "build_cards", "render_page", "reproduction_info", "scatter_chart"]
