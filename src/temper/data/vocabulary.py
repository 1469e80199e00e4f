"""Word-level tokenization: words in lower case, and a vocabulary that is learned from the training split."""

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


def tokenize(text: str, limit: int | None = None) -> list[str]:
    """Split a text into words in lower case and single punctuation marks. Contractions such as "it's" are one word.

    A text that is not blank has at least one token.

    Args:
        text: Any text.
        limit: Maximum number of tokens; the rest is cut. None means all.
    """
    # Cut first: the rest of a long text is not worth changing to lower case.
    return [match.group().lower() for match in islice(TOKEN.finditer(text), limit)]


class Vocabulary:
    """Word-level encoder of texts; implements `Spelling`.

    Token 0 is padding, and token 1 is any unknown word. The others are words, the most frequent first.

    Args:
        words: Known words, in the order of their tokens.
        length: Tokens per text. Longer texts are cut; shorter ones are padded on the right.
    """

    unknown = SPECIAL[UNK]

    def __init__(self, words: Sequence[str], *, length: int) -> None:
        self.words = [*SPECIAL, *words]
        self.tokens = {word: token for token, word in enumerate(self.words)}
        self.length = length

    @classmethod
    def learn(cls, texts: Iterable[str], *, size: int, length: int) -> "Vocabulary":
        """Build the vocabulary of the most frequent words. Log how many texts are cut and how many words are unknown.

        Words that occur once are left out, so that the token of unknown words is trained on them.

        Args:
            texts: Texts of the training split.
            size: Maximum number of tokens, including the special ones.
            length: Tokens per text. Words that are cut do not count.
        """
        texts = list(texts)
        counts = Counter(word for text in texts for word in tokenize(text, length))
        # Ties are broken alphabetically, so that the order of the texts does not matter.
        common = sorted((word for word, count in counts.items() if count > 1), key=lambda word: (-counts[word], word))
        vocabulary = cls(common[: max(size - len(SPECIAL), 0)], length=length)
        known = sum(count for word, count in counts.items() if word in vocabulary.tokens)
        cut = sum(len(tokenize(text, length + 1)) > length for text in texts)
        log.info(
            "texts: %d of %d in the training split are cut to data.length=%d tokens; %.1f %% of all words are not in the "
            "vocabulary of %d tokens",
            *(cut, len(texts), length, 100 * (1 - known / max(counts.total(), 1)), len(vocabulary.words)),
        )
        return vocabulary

    def __call__(self, x: Iterable[str]) -> Tensor:
        """Encode N texts as tokens (N, length) int64."""
        return self.join([tokenize(text, self.length) for text in x])

    def mask(self, x: Tensor) -> Tensor:
        """Return 1 at words, known or unknown, and 0 at padding, (B, L, 1), for tokens (B, L)."""
        return (x != PAD).unsqueeze(2).float()

    def split(self, x: Tensor) -> list[list[str]]:
        return [[self.words[token] for token in row if token != PAD] for row in x.tolist()]

    def join(self, texts: Sequence[Sequence[str]]) -> Tensor:
        tokens = torch.full((len(texts), self.length), PAD)
        for row, words in enumerate(texts):
            encoded = [self.tokens.get(word, UNK) for word in words[: self.length]]
            tokens[row, : len(encoded)] = torch.tensor(encoded, dtype=torch.int64)
        return tokens

    def knows(self, word: str) -> bool:
        return word in self.tokens

    def decode(self, x: Tensor) -> list[str]:
        return [" ".join(words) for words in self.split(x)]
