"""The attack axis: the threat, the inner maximization, and the risks that training minimizes."""

from temper.attacks.attack import Attack, NoAttack
from temper.attacks.pgd import PGD
from temper.attacks.probing import probing
from temper.attacks.threat import L2, Linf, Threat
from temper.attacks.torchattack import AutoAttack, TorchAttack
from temper.attacks.trades import TRADES

__all__ = ["L2", "PGD", "TRADES", "Attack", "AutoAttack", "Linf", "NoAttack", "Threat", "TorchAttack", "probing"]
