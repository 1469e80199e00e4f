"""Tests of the word-level vocabulary."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from temper.data.vocabulary import PAD, SPECIAL, UNK, Vocabulary, tokenize


def test_words_are_lower_case_and_punctuation_marks_are_single_tokens() -> None:
    assert tokenize("It's 2 GOOD, isn't it?! ☺") == ["it's", "2", "good", ",", "isn't", "it", "?", "!", "☺"]
    assert tokenize("does n't") == ["does", "n't"] and tokenize(" \n\t") == []


@given(st.text())
def test_a_text_that_is_not_blank_has_a_token(text: str) -> None:
    assert bool(tokenize(text)) == bool(text.strip())


def test_a_text_of_100_000_words_is_tokenized_up_to_the_limit() -> None:
    text = " ".join(f"w{number}" for number in range(100_000))
    assert tokenize(text, 3) == ["w0", "w1", "w2"]
    vocabulary = Vocabulary(["w2", "w3"], length=4)
    assert vocabulary([text]).tolist() == [[UNK, UNK, 2, 3]]


def test_frequent_words_come_first_and_rare_ones_are_unknown() -> None:
    texts = ["b a a once", "b a c", "c"]
    vocabulary = Vocabulary.learn(texts, size=10, length=5)
    assert vocabulary.words == [*SPECIAL, "a", "b", "c"]
    assert vocabulary(["c new A"]).tolist() == [[4, UNK, 2, PAD, PAD]]
    assert Vocabulary.learn(reversed(texts), size=4, length=5).words == [*SPECIAL, "a", "b"], (
        "at most 4 tokens, including the special ones"
    )


def test_words_that_are_cut_do_not_count_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="temper"):
        vocabulary = Vocabulary.learn(["a a b b", "a a"], size=10, length=2)
    assert vocabulary.words == [*SPECIAL, "a"]
    assert "1 of 2 in the training split are cut to data.length=2" in caplog.text and "0.0 % of all words" in caplog.text


def test_the_mask_excludes_padding_alone_and_tokens_are_decoded() -> None:
    vocabulary = Vocabulary(["a", "film"], length=4)
    tokens = vocabulary(["a great film", "film"])
    assert vocabulary.mask(tokens)[..., 0].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert vocabulary.decode(tokens) == ["a <unk> film", "film"]
    assert vocabulary.mask(tokens).dtype == torch.float32
