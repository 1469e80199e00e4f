"""Figures of a study, one idea a file. The same records give the same bytes."""

from temper.report.figures.curves import curves
from temper.report.figures.gallery import FIGURES, gallery
from temper.report.figures.radii import radii
from temper.report.figures.style import COLORS, DASHES, MARKERS, STYLE, legend, looks, save
from temper.report.figures.tradeoff import pareto_front, tradeoff

__all__ = [
    "COLORS",
    "DASHES",
    "FIGURES",
    "MARKERS",
    "STYLE",
    "curves",
    "gallery",
    "legend",
    "looks",
    "pareto_front",
    "radii",
    "save",
    "tradeoff",
]
