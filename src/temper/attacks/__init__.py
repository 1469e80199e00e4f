"""The attack axis: threat models, adversarial attacks and adversarial training objectives.

attack          interface of every attack: `perturb` finds x', `risk` is the loss that training minimizes at x'
threat, norms   perturbation sets: norm, radius, valid range, and the domain of tabular features
losses          per-example losses of logits that an adversary maximizes
gradient_step   one step of gradient ascent on the input
ascent, pgd     projected gradient ascent and its plain form, PGD (FGSM is one step of it)
network_state   context in which an attack queries a network without changing it
noise           random perturbations, the control for every attack
substitution    synonym substitution in texts
torchattack     adapter to the attacks of torchattacks
autoattack/     APGD, FAB and Square, and the cascade of them that is AutoAttack
objectives/     adversarial training methods with their own risk or inner loop: TRADES, MART, FreeLB, …
"""

from temper.attacks.attack import Attack, NoAttack
from temper.attacks.autoattack.apgd import APGD
from temper.attacks.autoattack.batch_filling import Filling
from temper.attacks.autoattack.cascade import AutoAttack, Cascade
from temper.attacks.autoattack.fab import FAB
from temper.attacks.autoattack.square import Square
from temper.attacks.network_state import probing
from temper.attacks.noise import Noise
from temper.attacks.norms import L1, L2, Linf
from temper.attacks.objectives.evolving import Evolving
from temper.attacks.objectives.freelb import FreeLB
from temper.attacks.objectives.mart import MART
from temper.attacks.objectives.mixed import Mixed
from temper.attacks.objectives.multi_norm import MultiNorm
from temper.attacks.objectives.single_step import NFGSM, Free, GradAlign
from temper.attacks.objectives.trades import TRADES
from temper.attacks.objectives.vat import VAT
from temper.attacks.pgd import PGD
from temper.attacks.substitution import Substitution
from temper.attacks.threat import Threat
from temper.attacks.torchattack import TorchAttack

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
