"""Keyed random seeds: each draw depends only on (run seed, purpose, epoch or step), never on earlier draws.

Runs with the same seed therefore see the same batches and the same random starts in every cell, and a resumed run is
bit-identical to an uninterrupted one without any saved random state.
"""

import hashlib

import torch


def key(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose of the run.

    Args:
        seed: seed of the run.
        purpose: name of the purpose, then e.g. the epoch and the step.
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a new CPU generator for one purpose; see `key` for the arguments."""
    return torch.Generator().manual_seed(key(seed, *purpose))


def rekey(seed: int, *purpose: str | int) -> None:
    """Seed torch's default generators for one purpose, for draws that take no generator, such as dropout.

    `torch.manual_seed` is avoided: where CUDA is built in but not in use, it costs a millisecond and a stack trace per call.

    Args:
        seed: seed of the run.
        purpose: as for `key`.
    """
    value = key(seed, *purpose)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
