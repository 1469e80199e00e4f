"""Words, and the numbers that stand for them."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from temper.data.vocabulary import PAD, SPECIAL, UNK, Vocabulary, tokenize


def test_words_are_in_lower_case_and_marks_by_themselves() -> None:
    assert tokenize("It's 2 GOOD, isn't it?! ☺") == ["it's", "2", "good", ",", "isn't", "it", "?", "!", "☺"]
    assert tokenize("does n't") == ["does", "n't"] and tokenize(" \n\t") == []


@given(st.text())
def test_what_is_not_blank_has_a_word(text: str) -> None:
    assert bool(tokenize(text)) == bool(text.strip())


def test_a_text_of_100_000_words_is_read_as_far_as_it_counts() -> None:
    text = " ".join(f"w{number}" for number in range(100_000))
    assert tokenize(text, 3) == ["w0", "w1", "w2"]
    vocabulary = Vocabulary(["w2", "w3"], length=4)
    assert vocabulary([text]).tolist() == [[UNK, UNK, 2, 3]]


def test_the_commonest_words_come_first_and_rare_ones_are_unknown() -> None:
    texts = ["b a a once", "b a c", "c"]
    vocabulary = Vocabulary.learn(texts, size=10, length=5)
    assert vocabulary.words == [*SPECIAL, "a", "b", "c"]
    assert vocabulary(["c new A"]).tolist() == [[4, UNK, 2, PAD, PAD]]
    assert Vocabulary.learn(reversed(texts), size=4, length=5).words == [*SPECIAL, "a", "b"], "at most so many"


def test_what_is_cut_does_not_count_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="temper"):
        vocabulary = Vocabulary.learn(["a a b b", "a a"], size=10, length=2)
    assert vocabulary.words == [*SPECIAL, "a"]
    assert "1 of 2 in the training split are cut to data.length=2" in caplog.text and "0.0 % of the words" in caplog.text


def test_padding_alone_is_out_of_reach_and_tokens_can_be_read() -> None:
    vocabulary = Vocabulary(["a", "film"], length=4)
    tokens = vocabulary(["a great film", "film"])
    assert vocabulary.mask(tokens)[..., 0].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert vocabulary.read(tokens) == ["a <unk> film", "film"]
    assert vocabulary.mask(tokens).dtype == torch.float32
