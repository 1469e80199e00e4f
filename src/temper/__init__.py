"""Temper: adversarial training and regularization, apart and together, measured.

loss = mean risk(attack) + strength * sum of weight_i * penalty_i
"""

__version__ = "0.1.0"
