"""Figures of a study, one idea a file. The same records give the same bytes."""

from temper.report.figures.eps_curves import radii
from temper.report.figures.registry import FIGURES, gallery
from temper.report.figures.style import COLORS, DASHES, MARKERS, STYLE, legend, looks, save
from temper.report.figures.tradeoff import pareto_front, tradeoff
from temper.report.figures.training_curves import curves

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
