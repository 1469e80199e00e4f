"""Paired comparisons, effects and the Pareto front of a study."""
