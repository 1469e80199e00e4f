"""From texts to the tokens of a pretrained network."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from temper.data.sources.interfaces import DataError
from temper.data.vocabulary import TOKEN

# A word or mark, and the blanks before it: put together, they are the text again.
PIECE = re.compile(rf"\s*(?:{TOKEN.pattern})")

log = logging.getLogger("temper")


class PretrainedTokens:
    """A tokenizer of transformers, as an encoder, and a `Spelling`.

    Args:
        name: on the Hugging Face hub, or a folder.
        length: tokens of a text, those at its ends included; a longer one is cut, a shorter one padded behind.

    Raises:
        DataError: it cannot be loaded, or has no token of padding.
    """

    def __init__(self, name: str, *, length: int) -> None:
        try:
            self.tokenizer = load_pretrained("data.tokenizer", "AutoTokenizer", name)
        except ValueError as error:
            raise DataError(str(error)) from error
        if self.tokenizer.pad_token_id is None:
            raise DataError(
                f"data.tokenizer: {name} has no token of padding; take that of an encoder such as bert-base-uncased"
            )
        self.length = length
        self.unknown: str = self.tokenizer.unk_token or ""
        # An unknown word is a word.
        self.special = torch.tensor(sorted({*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}))

    def __call__(self, x: Iterable[str]) -> Tensor:
        """N texts -> (N, length) int64."""
        return self._encoded(x, self.length)

    def mask(self, x: Tensor) -> Tensor:
        """Of tokens (B, L): 1 where there is a part of a text, 0 at padding and special tokens, (B, L, 1)."""
        return (~torch.isin(x, self.special.to(x.device))).unsqueeze(2).float()

    def split(self, x: Tensor) -> list[list[str]]:
        return [PIECE.findall(text) for text in self.read(x)]

    def join(self, texts: Sequence[Sequence[str]]) -> Tensor:
        return self(["".join(pieces) for pieces in texts])

    def knows(self, word: str) -> bool:
        return True  # in parts

    def read(self, x: Tensor) -> list[str]:
        kept = self.mask(x).squeeze(2).bool()
        return [self.tokenizer.decode(row[words].tolist()) for row, words in zip(x, kept, strict=True)]

    def log_cuts(self, x: Iterable[str]) -> None:
        """Tell how many of the training split's texts are longer than `length`."""
        cut = self._encoded(x, self.length + 1)[:, -1] != self.tokenizer.pad_token_id
        log.info("texts: %d of %d in the training split are cut to data.length=%d tokens", cut.sum(), len(cut), self.length)

    def _encoded(self, x: Iterable[str], length: int) -> Tensor:
        tokens = self.tokenizer(list(x), max_length=length, padding="max_length", padding_side="right", truncation=True)
        return torch.tensor(tokens["input_ids"])


def load_pretrained(key: str, kind: str, name: str, **arguments: Any) -> Any:
    """`transformers.<kind>.from_pretrained(name)`: of the Hugging Face hub, which a cache stands before, or of a folder.

    Raises:
        ValueError: it cannot be loaded; the message begins with `key`.
    """
    try:
        import transformers
    except ImportError:
        raise ValueError(
            f"{key}: {name} is loaded by transformers, which is not installed: pip install 'temper[text]'"
        ) from None
    try:
        return getattr(transformers, kind).from_pretrained(name, **arguments)
    except Exception as error:  # whatever a library raises that has no network, or a folder with other files
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{key}: transformers cannot load {name} ({said}); name a model of huggingface.co or, without a network, a folder "
            "that save_pretrained wrote model and tokenizer to"
        ) from error
