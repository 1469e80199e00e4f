"""From texts to tokens: words in lower case, and a number for each that the training split knows."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor

PAD, UNK = 0, 1
SPECIAL = ("<pad>", "<unk>")
TOKEN = re.compile(r"\w+(?:'\w+)?|[^\w\s]")

log = logging.getLogger("temper")


def tokenize(text: str, most: int | None = None) -> list[str]:
    """Words in lower case, an apostrophe and what follows it included, and every other mark by itself; the first `most` of
    them. A text that is not blank has at least one."""
    # Cut before it is put into lower case, which may be long.
    return [match.group().lower() for match in islice(TOKEN.finditer(text), most)]


class Vocabulary:
    """The commonest words of the texts that it was learned from, as an encoder of all others.

    Token 0 is padding, 1 stands for every word that is not in it, and the others are words, the commonest first. It is a
    `Spelling`.

    Args:
        words: in this order.
        length: tokens of a text; a longer one is cut, a shorter one padded behind.
    """

    unknown = SPECIAL[UNK]

    def __init__(self, words: Sequence[str], *, length: int) -> None:
        self.words = [*SPECIAL, *words]
        self.tokens = {word: token for token, word in enumerate(self.words)}
        self.length = length

    @classmethod
    def learn(cls, texts: Iterable[str], *, size: int, length: int) -> "Vocabulary":
        """Of at most `size` tokens, the special ones included.

        A word that occurs once is left out, so that the token of unknown words is learned from those. What was cut and what is
        unknown is logged.
        """
        texts = list(texts)
        counts = Counter(word for text in texts for word in tokenize(text, length))
        # Words that are equally common in the order of the alphabet: the same for every order of the texts.
        common = sorted((word for word, count in counts.items() if count > 1), key=lambda word: (-counts[word], word))
        vocabulary = cls(common[: max(size - len(SPECIAL), 0)], length=length)
        known = sum(count for word, count in counts.items() if word in vocabulary.tokens)
        cut = sum(len(tokenize(text, length + 1)) > length for text in texts)
        log.info(
            "texts: %d of %d in the training split are cut to data.length=%d tokens; %.1f %% of the words are not among the %d "
            "of the vocabulary",
            *(cut, len(texts), length, 100 * (1 - known / max(counts.total(), 1)), len(vocabulary.words)),
        )
        return vocabulary

    def __call__(self, x: Iterable[str]) -> Tensor:
        """N texts -> (N, length) int64."""
        return self.join([tokenize(text, self.length) for text in x])

    def mask(self, x: Tensor) -> Tensor:
        """Of tokens (B, L): 1 where there is a word, known or not, and 0 at padding, (B, L, 1)."""
        return (x != PAD).unsqueeze(2).float()

    def split(self, x: Tensor) -> list[list[str]]:
        return [[self.words[token] for token in row if token != PAD] for row in x.tolist()]

    def join(self, texts: Sequence[Sequence[str]]) -> Tensor:
        tokens = torch.full((len(texts), self.length), PAD)
        for row, words in enumerate(texts):
            found = [self.tokens.get(word, UNK) for word in words[: self.length]]
            tokens[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
        return tokens

    def knows(self, word: str) -> bool:
        return word in self.tokens

    def read(self, x: Tensor) -> list[str]:
        return [" ".join(words) for words in self.split(x)]
