"""Synonym substitution with a small test WordNet and the real one."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from temper.attacks import L2, PGD, Cascade, Substitution
from temper.attacks.substitution import load_synonyms
from temper.data import Batch, Loader
from temper.data.vocabulary import PAD, UNK, Vocabulary
from temper.evaluation.outcomes import attack_all
from temper.models import Network
from tests.conftest import FILES

WORDNET = FILES / "wordnet"
REAL = Path("/usr/share/wordnet")
WORDS = ["the", "film", "movie", "good", "fine", "plot", "chart", "story", "poor", "bad", "quite", "!"]
VOCABULARY = Vocabulary(WORDS, length=5)


class Bag(Network):
    """Network with logits (0, sum of a score per word), so that the effect of every replacement is known."""

    def __init__(self, **scores: float) -> None:
        super().__init__()
        self.register_buffer("score", torch.tensor([scores.get(word.strip("<>"), 0.0) for word in VOCABULARY.words]))

    def lift(self, x: Tensor) -> Tensor:
        return x if x.is_floating_point() else self.score[x]  # type: ignore[index]

    def logits(self, z: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(z)), z.sum(1)], dim=1)


def substitute(net: Network, text: str, label: int = 1, **settings: object) -> str:
    attack = Substitution(wordnet=str(WORDNET), **settings)  # type: ignore[arg-type]
    attack.set_encoder(VOCABULARY)
    x = VOCABULARY([text])
    x_adv = attack.perturb(net, Batch.of(x, torch.tensor([label])))
    assert x_adv.dtype == torch.int64 and torch.equal(x, VOCABULARY([text])), "the batch is unchanged"
    return VOCABULARY.decode(x_adv)[0]


def test_synonyms_of_most_frequent_part_of_speech() -> None:
    known = load_synonyms(WORDNET)
    assert known["good"] == ["fine"], "an adjective 210 times, and a noun three times"
    assert known["plot"] == ["chart"], "a verb, by the counts"
    assert known["film"] == ["movie"], "multi-word synonyms are left out"
    assert known["lovely"] == ["great", "fine", "charming"]


@pytest.mark.wordnet
@pytest.mark.skipif(not (REAL / "data.noun").is_file(), reason=f"no WordNet in {REAL}: apt-get install wordnet-base")
def test_real_synonyms() -> None:
    known = load_synonyms(REAL)
    assert known["movie"] == ["film", "picture", "pic", "flick"] and "tedious" in known["boring"] and len(known) > 50_000
    assert "s" not in known and "s" not in known["second"], "single letters are left out"


def test_most_important_word_is_replaced_first() -> None:
    net = Bag(good=1.0, fine=0.2, film=0.5, movie=0.1)
    assert substitute(net, "the good film") == "the fine film"
    assert substitute(net, "the good film", max_changed=1.0) == "the fine movie"


def test_synonym_of_largest_effect_is_chosen() -> None:
    net = Bag(lovely=0.0, good=1.0, fine=2.0, film=1.0, movie=-0.5)
    assert substitute(net, "the good film") == "the good movie", "fine would lower the loss, and does not count as a change"


def test_stops_once_the_text_is_misclassified() -> None:
    net = Bag(good=1.0, fine=-1.0, film=0.5, movie=0.4)
    assert substitute(net, "good film", max_changed=1.0) == "fine film"
    assert substitute(net, "good film", label=0, max_changed=1.0) == "good film", "it is already misclassified"


def test_function_words_and_words_without_synonyms_are_kept() -> None:
    net = Bag(the=5.0, quite=4.0, unk=-10.0)
    assert substitute(net, "the quite", max_changed=1.0) == "the quite"


def test_number_of_changed_words_is_limited_but_at_least_one() -> None:
    net = Bag(good=1.0, fine=0.9, bad=1.0, poor=0.9, film=1.0, movie=0.9)
    for fraction, most in ((0.0, 1), (0.2, 1), (0.5, 2), (0.6, 3), (1.0, 3)):
        before, after = "good bad film the the", substitute(net, "good bad film the the", max_changed=fraction)
        assert sum(a != b for a, b in zip(before.split(), after.split(), strict=True)) == most


def test_punctuation_does_not_count_as_words() -> None:
    net = Bag(good=1.0, fine=0.8, bad=1.0, poor=0.9)
    assert substitute(net, "good bad film ! !", max_changed=0.4) == "fine bad film ! !", "two of five, but one of three words"


def test_batch_equals_single_texts() -> None:
    net = Bag(good=1.0, fine=0.2, film=0.5, movie=0.1, bad=-1.0, poor=0.5)
    texts, y = ["the good film", "bad film", "film film film bad good", "the"], torch.tensor([1, 0, 1, 1])
    attack = Substitution(wordnet=str(WORDNET), max_changed=0.5)
    attack.set_encoder(VOCABULARY)
    x = VOCABULARY(texts)
    together = attack.perturb(net, Batch.of(x, y))
    assert torch.equal(together == PAD, x == PAD) and not (together == UNK).any()
    for row in range(4):
        assert torch.equal(attack.perturb(net, Batch.of(x[row : row + 1], y[row : row + 1]))[0], together[row])


def test_cascade_applies_it_to_remaining_texts() -> None:
    net = Bag(good=1.0, fine=-0.3, film=1.0, movie=0.9, bad=0.2, poor=0.1)
    batch = Batch.of(VOCABULARY(["good", "good film", "bad", "plot"]), torch.tensor([1, 1, 1, 1]))
    threat = L2(eps=0.3, lower=-math.inf, upper=math.inf)
    attacks = {"pgd": PGD(threat=threat, steps=5), "words": Substitution(wordnet=str(WORDNET), max_changed=1.0)}
    cascade = Cascade(attacks=attacks)
    cascade.set_encoder(VOCABULARY)
    fooled = {name: net(attack.perturb(net, batch)).argmax(1) != batch.y for name, attack in attacks.items()}
    assert fooled["pgd"].tolist() == [False, False, True, True] and fooled["words"].tolist() == [True, False, False, True]
    x_adv = cascade.perturb(net, batch)
    assert x_adv.is_floating_point(), "both attacks return embeddings"
    assert (net(x_adv).argmax(1) != batch.y).tolist() == [True, False, True, True]
    loader = Loader(batch.x, batch.y, batch_size=4)
    assert attack_all(net, {"both": cascade}, loader, seed=0).worst_case.tolist() == [False, True, False, False]


def test_wrong_inputs_and_missing_wordnet_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the inputs are not texts"):
        Substitution(wordnet=str(WORDNET)).set_encoder(None)
    with pytest.raises(ValueError, match=rf"wordnet: {tmp_path} does not hold WordNet's files .*apt-get install wordnet-base"):
        Substitution(wordnet=str(tmp_path)).set_encoder(VOCABULARY)
