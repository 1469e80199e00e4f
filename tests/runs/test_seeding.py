"""Tests of keyed random seeds."""

import torch

from temper.runs.seeding import generator, key, rekey


def test_keys_depend_on_seed_and_purpose_only() -> None:
    keys = [key(0, "attack", 1), key(0, "attack", 2), key(1, "attack", 1), key(0, "order", 1), key(0, "attack", 11)]
    assert len(set(keys)) == len(keys)
    assert keys[0] == key(0, "attack", 1) and min(keys) >= 0 and max(keys) < 2**63


def test_draws_depend_on_the_key_only() -> None:
    rekey(0, "network", 5)
    first = torch.rand(3)
    torch.rand(100)
    rekey(0, "network", 5)
    assert torch.equal(first, torch.rand(3))
    assert torch.equal(torch.rand(3, generator=generator(0, "a")), torch.rand(3, generator=generator(0, "a")))
