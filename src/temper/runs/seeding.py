"""Randomness is keyed, never carried: each draw depends on (run seed, purpose, epoch or step) and on nothing before it.

So cells of one seed see the same batches and the same random starts whatever else they do, and a resumed run
equals an undisturbed one to the bit without saving any random state.
"""

import hashlib

import torch


def key(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose of the run with this seed."""
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator of its own for one purpose."""
    return torch.Generator().manual_seed(key(seed, *purpose))


def rekey(seed: int, *purpose: str | int) -> None:
    """Point torch's default generators at one purpose: for draws that take no generator, such as dropout.

    Not `torch.manual_seed`: where CUDA is built in but not in use, that costs a millisecond and a stack trace per call.
    """
    value = key(seed, *purpose)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
