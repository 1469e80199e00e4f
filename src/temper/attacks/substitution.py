"""Synonym substitution: an attack on texts that leaves them readable, and its reader of WordNet."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor

from temper.attacks.attack import Attack
from temper.attacks.losses import margin
from temper.attacks.network_state import probing
from temper.config.types import Count, Probability, checked
from temper.data.batch import Batch
from temper.data.sources import Encoder, Spelling
from temper.models.network import Network

# Suffix of WordNet's files, and the digits that denote this part of speech in its counts (5: satellite adjectives).
PARTS_OF_SPEECH = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}
INSTALL_HINT = (
    "Install it (Debian and Ubuntu: apt-get install wordnet-base; elsewhere the dict folder of wordnet.princeton.edu)."
)


class Candidate(NamedTuple):
    """A variant of a text, and the row of that text in the batch."""

    row: int
    words: list[str]


class Substitution(Attack):
    """Greedy synonym substitution, as in Ren et al. 2019 and Jin et al. 2020.

    Words are tried in the order of the loss when they are replaced by the unknown word, highest first. Each is replaced by the
    synonym that raises the margin loss most, if one raises it, until the text is misclassified. Papers:
    https://aclanthology.org/P19-1103 and https://arxiv.org/abs/1907.11932.

    The attack uses only logits. Synonyms are those of WordNet that the encoder knows; function words are not replaced. It
    returns tokens of a real text, which need not be in any ball around the embeddings.

    Args:
        max_changed: largest fraction of a text's words that is replaced, not counting punctuation; one word is always allowed.
        most: largest number of synonyms tried for a word.
        wordnet: folder with WordNet's files.
    """

    evaluation_only = True

    encoder: Spelling
    synonyms: dict[str, list[str]]

    @checked
    def __init__(self, *, max_changed: Probability = 0.2, most: Count = 8, wordnet: str = "/usr/share/wordnet") -> None:
        super().__init__()
        self.max_changed, self.most, self.wordnet = max_changed, most, Path(wordnet).expanduser()

    def set_encoder(self, encoder: Encoder | None) -> None:
        """Receive the encoder of the texts and load the synonyms.

        Raises:
            ValueError: The inputs are not texts, or WordNet's files are missing.
        """
        if not isinstance(encoder, Spelling):
            raise ValueError("the attack replaces words, but the inputs are not texts. Use it on a text data set.")
        self.encoder, self.synonyms = encoder, load_synonyms(self.wordnet)

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, "eval"), torch.no_grad():
            return self._substitute(net, batch.x, batch.y)

    def _substitute(self, net: Network, x: Tensor, y: Tensor) -> Tensor:
        """Return the tokens of the changed texts, (B, L) int64."""

        def evaluate(candidates: Sequence[Candidate]) -> tuple[Tensor, list[float]]:
            """Return the tokens and margin losses of candidates, computed in batches of size B."""
            tokens = self.encoder.join([candidate.words for candidate in candidates]).to(x.device)
            rows = [candidate.row for candidate in candidates]
            parts = zip(tokens.split(len(x)), y[rows].split(len(x)), strict=True)
            return tokens, [loss for part, labels in parts for loss in margin(net(part).float(), labels).tolist()]

        x_adv, texts = x.clone(), self.encoder.split(x)
        loss: list[float] = margin(net(x).float(), y).tolist()
        allowed = [max(int(self.max_changed * sum(map(_is_word, words))), 1) for words in texts]
        order = self._rank_positions(evaluate, texts)
        for step in range(max(map(len, order))):
            candidates = [
                Candidate(row, _replace_word(words, order[row][step], synonym))
                for row, words in enumerate(texts)
                if step < len(order[row]) and loss[row] < 0 and allowed[row]
                for synonym in self._usable_synonyms(words[order[row][step]])
            ]
            if not candidates:
                continue
            tokens, losses = evaluate(candidates)
            complete = self._complete(tokens, candidates)
            losses = [value if kept else -math.inf for value, kept in zip(losses, complete, strict=True)]
            for row, group in groupby(range(len(candidates)), key=lambda index: candidates[index].row):
                worst = max(group, key=losses.__getitem__)
                if losses[worst] > loss[row]:
                    texts[row], x_adv[row], loss[row] = candidates[worst].words, tokens[worst], losses[worst]
                    allowed[row] -= 1
        return x_adv

    def _complete(self, tokens: Tensor, candidates: Sequence[Candidate]) -> list[bool]:
        """Return True for candidates that keep their last word: a word with more tokens can push others out of the text."""
        ends = [(len(words), words[-1].strip().lower()) for words in self.encoder.split(tokens)]
        return [
            count >= len(candidate.words) and last == candidate.words[-1].strip().lower()
            for (count, last), candidate in zip(ends, candidates, strict=True)
        ]

    def _rank_positions(
        self, evaluate: Callable[[Sequence[Candidate]], tuple[Tensor, list[float]]], texts: Sequence[list[str]]
    ) -> list[list[int]]:
        """Return the positions of each text's words with synonyms, by decreasing loss of the text without the word."""
        positions = [[index for index, word in enumerate(words) if self._usable_synonyms(word)] for words in texts]
        without = [
            Candidate(row, _replace_word(words, position, self.encoder.unknown))
            for row, words in enumerate(texts)
            for position in positions[row]
        ]
        losses = iter(evaluate(without)[1] if without else [])
        importance = [dict(zip(row, islice(losses, len(row)), strict=True)) for row in positions]
        return [sorted(losses, key=losses.__getitem__, reverse=True) for losses in importance]

    def _usable_synonyms(self, word: str) -> list[str]:
        """Return the synonyms to try for a word, which may begin with blanks, in the word's capitalization."""
        word = word.lstrip()
        if word.lower() in ENGLISH_STOP_WORDS:
            return []
        synonyms = [synonym for synonym in self.synonyms.get(word.lower(), ()) if synonym not in ENGLISH_STOP_WORDS]
        cased = [synonym.capitalize() if word[0].isupper() else synonym for synonym in synonyms]
        return [synonym for synonym in cased if self.encoder.knows(synonym)][: self.most]


def _is_word(text: str) -> bool:
    """Return True for a word, False for a punctuation mark."""
    return any(letter.isalnum() for letter in text)


def _replace_word(words: Sequence[str], position: int, word: str) -> list[str]:
    """Return the words with another one at a position, after the same leading blanks."""
    blanks = words[position][: -len(words[position].lstrip())]
    return [*words[:position], blanks + word, *words[position + 1 :]]


@lru_cache(maxsize=2)
def load_synonyms(folder: Path) -> dict[str, list[str]]:
    """Return the single-word synonyms of each single word of WordNet, in lower case and in the order of its files.

    Synonyms of a word share a synset with it (Miller 1995, https://doi.org/10.1145/219717.219748). Of a word with several parts
    of speech, only the synsets of the most frequent one count, by WordNet's counts. Words occur only in their base form: a
    plural has no synonyms here.

    Args:
        folder: folder with WordNet's files.

    Raises:
        ValueError: A file cannot be read.
    """
    try:
        counts = _counts(folder / "cntlist.rev")
        synsets = {part: list(_synsets(folder / f"data.{part}")) for part in PARTS_OF_SPEECH}
    except OSError as error:
        raise ValueError(
            f"wordnet: {folder} does not hold WordNet's files ({error.strerror}: {error.filename}). {INSTALL_HINT}"
        ) from None
    by_part: defaultdict[str, dict[str, dict[str, None]]] = defaultdict(dict)
    for part, members in synsets.items():
        for words in members:
            for word in words:
                # The keys of a dict are an ordered set.
                by_part[word].setdefault(part, {}).update(dict.fromkeys(other for other in words if other != word))
    return {word: list(parts[max(parts, key=lambda part: counts[word, part])]) for word, parts in by_part.items()}


def _counts(path: Path) -> Counter[tuple[str, str]]:
    """Return the count of each (word, part of speech), from lines such as `able%3:00:00:: 1 51`."""
    total: Counter[tuple[str, str]] = Counter()
    part_of = {digit: part for part, digits in PARTS_OF_SPEECH.items() for digit in digits}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, _, count = line.split(" ")
        word, _, sense = key.partition("%")
        total[word, part_of[sense[0]]] += int(count)
    return total


def _synsets(path: Path) -> Iterator[list[str]]:
    """Yield the single words of each synset, from lines such as `00001740 29 v 03 breathe 0 respire 0 take_a_breath 0 …`."""
    with path.open(encoding="latin-1") as file:
        for line in file:
            if line.startswith(" "):
                continue  # the license
            _, _, _, count, rest = line.split(" ", 4)
            words = rest.split(" ", 2 * int(count, 16))[: 2 * int(count, 16) : 2]
            # An adjective may carry its syntactic position, as in `bound(p)`.
            # Single letters are left out: the "s" of "it 's" is not a synonym of "second".
            yield [word for word in (word.partition("(")[0].lower() for word in words) if word.isalpha() and len(word) > 1]
