"""Sweeps over cells: grids, grids with tuned strengths, and Optuna searches; composed, validated, launched and monitored."""
