"""The attack axis: the threat, the inner maximization, and the risks that training minimizes."""

from temper.attacks.apgd import APGD
from temper.attacks.attack import Attack, NoAttack
from temper.attacks.cascade import AutoAttack, Cascade
from temper.attacks.evolving import Evolving
from temper.attacks.fab import FAB
from temper.attacks.fast import NFGSM, Free, GradAlign
from temper.attacks.filling import Filling
from temper.attacks.freelb import FreeLB
from temper.attacks.mart import MART
from temper.attacks.mixed import Mixed
from temper.attacks.multi_norm import MultiNorm
from temper.attacks.noise import Noise
from temper.attacks.norms import L1, L2, Linf
from temper.attacks.pgd import PGD
from temper.attacks.probing import probing
from temper.attacks.square import Square
from temper.attacks.substitution import Substitution
from temper.attacks.threat import Threat
from temper.attacks.torchattack import TorchAttack
from temper.attacks.trades import TRADES
from temper.attacks.vat import VAT

__all__ = [
    "APGD",
    "FAB",
    "L1",
    "L2",
    "MART",
    "NFGSM",
    "PGD",
    "TRADES",
    "VAT",
    "Attack",
    "AutoAttack",
    "Cascade",
    "Evolving",
    "Filling",
    "Free",
    "FreeLB",
    "GradAlign",
    "Linf",
    "Mixed",
    "MultiNorm",
    "NoAttack",
    "Noise",
    "Square",
    "Substitution",
    "Threat",
    "TorchAttack",
    "probing",
]
