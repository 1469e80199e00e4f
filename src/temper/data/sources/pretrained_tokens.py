"""Tokenizers of pretrained networks, and the loading of pretrained objects with transformers."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from temper.config.errors import first_line
from temper.data.sources.interfaces import DataError
from temper.data.vocabulary import TOKEN

# A word or punctuation mark with the blanks before it: joined, the pieces are the text again.
PIECE = re.compile(rf"\s*(?:{TOKEN.pattern})")

log = logging.getLogger("temper")


def load_pretrained(key: str, kind: str, name: str, **arguments: Any) -> Any:
    """Call `transformers.<kind>.from_pretrained(name, **arguments)`.

    Args:
        key: Config key that names the object, for error messages.
        kind: Class of transformers, such as "AutoTokenizer".
        name: Name on the Hugging Face hub (downloads are cached), or a folder.
        arguments: Further arguments.

    Raises:
        ValueError: transformers is not installed or cannot load the object; the message begins with `key`.
    """
    try:
        import transformers
    except ImportError:
        raise ValueError(f"{key}: {name} needs transformers, which is not installed. Run pip install 'temper[text]'.") from None
    try:
        return getattr(transformers, kind).from_pretrained(name, **arguments)
    except Exception as error:  # without a network or with unsuitable files, transformers raises many types
        raise ValueError(
            f"{key}: transformers cannot load {name} ({first_line(error)}). Name a model of huggingface.co or, without a "
            "network, a folder to which save_pretrained wrote model and tokenizer."
        ) from error


class PretrainedTokens:
    """A tokenizer of transformers as an encoder of texts; implements `Spelling`.

    Args:
        name: Name on the Hugging Face hub, or a folder.
        length: Tokens per text, including special ones. Longer texts are cut; shorter ones are padded on the right.

    Raises:
        DataError: The tokenizer cannot be loaded, or has no padding token.
    """

    def __init__(self, name: str, *, length: int) -> None:
        try:
            self.tokenizer = load_pretrained("data.tokenizer", "AutoTokenizer", name)
        except ValueError as error:
            raise DataError(str(error)) from error
        if self.tokenizer.pad_token_id is None:
            raise DataError(
                f"data.tokenizer={name}: the tokenizer has no padding token. Use that of an encoder, such as bert-base-uncased."
            )
        self.length = length
        self.unknown: str = self.tokenizer.unk_token or ""
        # The token of unknown words represents a word: an adversary may change it.
        self.special = torch.tensor(sorted({*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}))

    def __call__(self, x: Iterable[str]) -> Tensor:
        """Encode N texts as tokens (N, length) int64."""
        return self._encode(x, self.length)

    def mask(self, x: Tensor) -> Tensor:
        """Return 1 at tokens of the text and 0 at padding and special tokens, (B, L, 1), for tokens (B, L)."""
        return (~torch.isin(x, self.special.to(x.device))).unsqueeze(2).float()

    def split(self, x: Tensor) -> list[list[str]]:
        return [PIECE.findall(text) for text in self.decode(x)]

    def join(self, texts: Sequence[Sequence[str]]) -> Tensor:
        return self(["".join(pieces) for pieces in texts])

    def knows(self, word: str) -> bool:
        return True  # subword tokens can spell any word

    def decode(self, x: Tensor) -> list[str]:
        kept = self.mask(x).squeeze(2).bool()
        return [self.tokenizer.decode(row[words].tolist()) for row, words in zip(x, kept, strict=True)]

    def log_cuts(self, x: Iterable[str]) -> None:
        """Log how many texts of the training split are longer than `length`."""
        cut = self._encode(x, self.length + 1)[:, -1] != self.tokenizer.pad_token_id
        log.info("texts: %d of %d in the training split are cut to data.length=%d tokens", cut.sum(), len(cut), self.length)

    def _encode(self, x: Iterable[str], length: int) -> Tensor:
        tokens = self.tokenizer(list(x), max_length=length, padding="max_length", padding_side="right", truncation=True)
        return torch.tensor(tokens["input_ids"])
