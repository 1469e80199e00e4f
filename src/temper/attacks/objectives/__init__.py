"""Adversarial training methods that redefine the risk, the inner maximization or both."""
