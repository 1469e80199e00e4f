"""Words for words: an attack that leaves a text which can be read."""

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


class Version(NamedTuple):
    """A version of a text, and which one of the batch it is a version of."""

    row: int
    words: list[str]


class Substitution(Attack):
    """Greedy substitution by synonyms, as in Ren et al. 2019 (https://aclanthology.org/P19-1103) and Jin et al. 2020
    (https://arxiv.org/abs/1907.11932): the words whose loss harms the network most are tried first, and each is exchanged for
    the synonym that raises the margin loss most, if one does, until the text is misclassified.

    It asks for logits alone. Synonyms are those of WordNet that the encoder knows; function words stay. What it returns are
    tokens of a real text, in no ball around the embeddings.

    Args:
        max_changed: largest share of a text's words, marks not counted; one is always allowed.
        most: synonyms that are tried for a word.
        wordnet: the folder with WordNet's files.
    """

    evaluation_only = True

    spelling: Spelling
    known: dict[str, list[str]]

    @checked
    def __init__(self, *, max_changed: Probability = 0.2, most: Count = 8, wordnet: str = "/usr/share/wordnet") -> None:
        super().__init__()
        self.max_changed, self.most, self.wordnet = max_changed, most, Path(wordnet).expanduser()

    def meet(self, encoder: Encoder | None) -> None:
        if not isinstance(encoder, Spelling):
            raise ValueError("it exchanges words, and these inputs are no texts")
        self.spelling, self.known = encoder, synonyms(self.wordnet)

    def perturb(self, net: Network, batch: Batch) -> Tensor:
        with probing(net, "eval"), torch.no_grad():
            return self._exchanged(net, batch.x, batch.y)

    def _exchanged(self, net: Network, x: Tensor, y: Tensor) -> Tensor:
        """Texts (B, L) int64."""

        def tried(trials: Sequence[Version]) -> tuple[Tensor, list[float]]:
            """Their tokens and losses, in batches as large as that of the texts."""
            tokens = self.spelling.join([trial.words for trial in trials]).to(x.device)
            parts = zip(tokens.split(len(x)), y[[trial.row for trial in trials]].split(len(x)), strict=True)
            return tokens, [loss for part, labels in parts for loss in margin(net(part).float(), labels).tolist()]

        found, texts = x.clone(), self.spelling.split(x)
        loss: list[float] = margin(net(x).float(), y).tolist()
        allowed = [max(int(self.max_changed * sum(map(_is_word, words))), 1) for words in texts]
        order = self._order(tried, texts)
        for step in range(max(map(len, order))):
            trials = [
                Version(row, _exchange(words, order[row][step], other))
                for row, words in enumerate(texts)
                if step < len(order[row]) and loss[row] < 0 and allowed[row]
                for other in self._others(words[order[row][step]])
            ]
            if not trials:
                continue
            tokens, losses = tried(trials)
            losses = [one if whole else -math.inf for one, whole in zip(losses, self._whole(tokens, trials), strict=True)]
            for row, versions in groupby(range(len(trials)), key=lambda version: trials[version].row):
                worst = max(versions, key=losses.__getitem__)
                if losses[worst] > loss[row]:
                    texts[row], found[row], loss[row] = trials[worst].words, tokens[worst], losses[worst]
                    allowed[row] -= 1
        return found

    def _whole(self, tokens: Tensor, trials: Sequence[Version]) -> list[bool]:
        """Whether each reaches to its end: a word of more tokens than the one before it may push others out of the text."""
        ends = [(len(words), words[-1].strip().lower()) for words in self.spelling.split(tokens)]
        return [
            pieces >= len(trial.words) and last == trial.words[-1].strip().lower()
            for (pieces, last), trial in zip(ends, trials, strict=True)
        ]

    def _order(
        self, tried: Callable[[Sequence[Version]], tuple[Tensor, list[float]]], texts: Sequence[list[str]]
    ) -> list[list[int]]:
        """The places of each text whose word has synonyms, those first whose word the network can spare least."""
        places = [[place for place, word in enumerate(words) if self._others(word)] for words in texts]
        without = [
            Version(row, _exchange(words, place, self.spelling.unknown))
            for row, words in enumerate(texts)
            for place in places[row]
        ]
        losses = iter(tried(without)[1] if without else [])
        harms = [dict(zip(row, islice(losses, len(row)), strict=True)) for row in places]
        return [sorted(harm, key=harm.__getitem__, reverse=True) for harm in harms]

    def _others(self, piece: str) -> list[str]:
        """What a word may be exchanged for, capitalized as it is."""
        word = piece.lstrip()
        if word.lower() in ENGLISH_STOP_WORDS:
            return []
        others = [other for other in self.known.get(word.lower(), ()) if other not in ENGLISH_STOP_WORDS]
        spelled = [other.capitalize() if word[0].isupper() else other for other in others]
        return [other for other in spelled if self.spelling.knows(other)][: self.most]


def _is_word(piece: str) -> bool:
    """Or else a mark."""
    return any(letter.isalnum() for letter in piece)


def _exchange(words: Sequence[str], place: int, other: str) -> list[str]:
    """The words with another one in a place, after the blanks that stood there."""
    blanks = words[place][: -len(words[place].lstrip())]
    return [*words[:place], blanks + other, *words[place + 1 :]]


# By the suffix of its files: the digits that stand for a part of speech in the counts (adjectives have satellites).
PARTS = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}
HINT = "install it (Debian and Ubuntu: apt-get install wordnet-base; elsewhere the dict folder of wordnet.princeton.edu)"


@lru_cache(maxsize=2)
def synonyms(folder: Path) -> dict[str, list[str]]:
    """Of each single word the other single words of its synsets, in the order of the files and in lower case.

    Of a word that is several parts of speech, the synsets of that which it is most often, by the counts of WordNet (Miller
    1995, https://doi.org/10.1145/219717.219748). Words stand in their base form alone: a plural has no synonyms here.

    Raises:
        ValueError: the files are not there.
    """
    try:
        counts = Counter(dict(_counts(folder / "cntlist.rev")))
        synsets = {part: list(_synsets(folder / f"data.{part}")) for part in PARTS}
    except OSError as error:
        raise ValueError(
            f"wordnet: {folder} does not hold WordNet's files ({error.strerror}: {error.filename}); {HINT}"
        ) from None
    parts: defaultdict[str, dict[str, dict[str, None]]] = defaultdict(dict)
    for part, members in synsets.items():
        for words in members:
            for word in words:
                # The keys of a dict: a set that keeps its order.
                parts[word].setdefault(part, {}).update(dict.fromkeys(other for other in words if other != word))
    return {word: list(of[max(of, key=lambda part: counts[word, part])]) for word, of in parts.items()}


def _counts(path: Path) -> Iterator[tuple[tuple[str, str], int]]:
    """How often a word was met as a part of speech, from lines such as `able%3:00:00:: 1 51`."""
    total: Counter[tuple[str, str]] = Counter()
    named = {digit: part for part, digits in PARTS.items() for digit in digits}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, _, count = line.split(" ")
        word, _, sense = key.partition("%")
        total[word, named[sense[0]]] += int(count)
    return iter(total.items())


def _synsets(path: Path) -> Iterator[list[str]]:
    """The single words of each synset, from lines such as `00001740 29 v 03 breathe 0 respire 0 take_a_breath 0 …`."""
    with path.open(encoding="latin-1") as file:
        for line in file:
            if line.startswith(" "):
                continue  # the licence
            _, _, _, count, rest = line.split(" ", 4)
            words = rest.split(" ", 2 * int(count, 16))[: 2 * int(count, 16) : 2]
            # An adjective may say where it stands: `bound(p)`.
            # A letter is no word to a reader: the "s" of "it 's" is not a second.
            yield [word for word in (word.partition("(")[0].lower() for word in words) if word.isalpha() and len(word) > 1]
