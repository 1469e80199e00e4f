"""Figures of a study, one module per figure. The same records give the same bytes."""

from temper.report.figures.eps_curves import radii
from temper.report.figures.registry import FIGURES, available_figures
from temper.report.figures.style import COLORS, STYLE, legend, save
from temper.report.figures.tradeoff import pareto_front, tradeoff
from temper.report.figures.training_curves import curves

__all__ = [
    "COLORS",
    "FIGURES",
    "STYLE",
    "available_figures",
    "curves",
    "legend",
    "pareto_front",
    "radii",
    "save",
    "tradeoff",
]
