"""Temper: adversarial training, regularization and their combination, compared under equal conditions.

loss = mean risk(attack) + strength * sum of weight_i * penalty_i
"""

__version__ = "0.1.0"
