"""Texts with a label: files on this machine, or what Hugging Face `datasets` fetches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from temper.config.types import Count, checked
from temper.data.sources.csv_files import located_files, packed_or_not
from temper.data.sources.fingerprint import bytes_of, listing_of, log_missing, unchanged
from temper.data.sources.interfaces import Arrays, DataError, Encoder, Measured
from temper.data.sources.labels import Naming, Value, held_out
from temper.data.sources.pretrained_tokens import PretrainedTokens
from temper.data.sources.text_files import Texts, numbered, read_columns, read_folders
from temper.data.vocabulary import Vocabulary


class TextSource(ABC):
    """Texts, numbered by a vocabulary of the training split, or by the tokenizer of a pretrained network.

    Args:
        vocabulary: of so many tokens at most, padding and unknown words included.
        length: tokens of a text; longer ones are cut.
        tokenizer: of transformers, by name or folder; None: words, and the vocabulary.
        content: what `measure` said of the files when the run was set up; None: anything.
    """

    @checked
    def __init__(
        self, *, vocabulary: Count = 10_000, length: Count = 64, tokenizer: str | None = None, content: str | None = None
    ) -> None:
        self.vocabulary, self.length, self.tokenizer, self.content = vocabulary, length, tokenizer, content

    @abstractmethod
    def load(self) -> Arrays: ...

    @abstractmethod
    def measure(self) -> Measured:
        """What the files say of themselves."""

    def fit(self, x: np.ndarray, y: Tensor) -> Encoder:
        if self.tokenizer is not None:
            tokens = PretrainedTokens(self.tokenizer, length=self.length)
            tokens.log_cuts(x)
            return tokens
        return Vocabulary.learn(x, size=self.vocabulary, length=self.length)


class _Published(TextSource):
    """A data set that lies in a folder, or is fetched by `datasets`, which keeps it in a cache of its own.

    Args:
        root: the folder that may hold its files.
        download: fetch it where they are missing.
        settings: those of `TextSource`.
    """

    name: ClassVar[str]
    layout: ClassVar[str]  # of its files in the root, for messages
    path: ClassVar[str]  # of the data set on the Hugging Face hub
    columns: ClassVar[tuple[str, str]]  # there, of text and label

    @checked
    def __init__(self, *, root: str, download: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.root, self.download = Path(root).expanduser().resolve(), download

    def measure(self) -> Measured:
        return Measured((self.length,), 2, self.digest(self.files()) if self.files() else f"fetched {self.path}")

    def load(self) -> Arrays:
        files = self.files()
        if not files and not self.download:
            raise self._missing("and data.source.download is false")
        unchanged(self.content, self.measure().content, self.root)
        train, test = self.local(files) if files else self._fetched()
        return _arrays(train, test, train.y.tolist(), self.name)

    @abstractmethod
    def files(self) -> list[Path]:
        """Those of the set; none where one is missing."""

    @abstractmethod
    def local(self, files: Sequence[Path]) -> tuple[Texts, Texts | None]:
        """The training and, if there is one, the test split."""

    def digest(self, files: Sequence[Path]) -> str:
        return bytes_of(files)

    def _fetched(self) -> tuple[Texts, Texts | None]:
        try:
            from datasets import load_dataset
        except ImportError:
            raise self._missing(
                "and the package datasets, which fetches it, is not installed: pip install 'temper[text]'"
            ) from None
        try:
            splits = load_dataset(self.path)
        except Exception as error:  # whatever a library raises that has no network, or half a cache
            raise self._missing(f"and the download failed ({str(error).strip().splitlines()[0]})") from error
        texts, labels = self.columns
        # The test split of GLUE has no labels: its validation split is what the literature reports.
        parts = [splits[name] for name in ("train", "validation" if "validation" in splits else "test") if name in splits]
        train, *rest = (Texts(np.array(part[texts], dtype=object), torch.tensor(part[labels])) for part in parts)
        return train, rest[0] if rest else None

    def _missing(self, why: str) -> DataError:
        return DataError(
            f"{self.name} was not found in {self.root}, {why}. Put its files there ({self.layout}), or name the folder that "
            "holds them: data.source.root=FOLDER"
        )


class SST2(_Published):
    """Stanford Sentiment Treebank, two classes (Socher et al. 2013, https://aclanthology.org/D13-1170), as GLUE has it: 67,349
    phrases of film reviews, negative or positive, and 872 sentences to test on, GLUE's validation split."""

    name = "SST-2"
    layout = "train.tsv and dev.tsv, or these with .gz, in sst2 or SST-2"
    path = "stanfordnlp/sst2"
    columns = ("sentence", "label")

    def files(self) -> list[Path]:
        for folder in (self.root / "sst2", self.root / "SST-2"):
            paths = [path for split in ("train", "dev") if (path := packed_or_not(folder / f"{split}.tsv"))]
            if len(paths) == 2:
                return paths
        return []

    def local(self, files: Sequence[Path]) -> tuple[Texts, Texts | None]:
        train, dev = (numbered(read_columns(path, "sentence", "label"), path, ["0", "1"]) for path in files)
        return train, dev


class IMDB(_Published):
    """25,000 + 25,000 film reviews, negative or positive (Maas et al. 2011, https://aclanthology.org/P11-1015)."""

    name = "IMDB"
    layout = "aclImdb/{train,test}/{neg,pos}/*.txt, as its archive has them"
    path = "stanfordnlp/imdb"
    columns = ("text", "label")

    def files(self) -> list[Path]:
        return sorted((self.root / "aclImdb").glob("*/*/*.txt"))

    def local(self, files: Sequence[Path]) -> tuple[Texts, Texts | None]:
        train, test = (read_folders(self.root / "aclImdb" / split, ["neg", "pos"]) for split in ("train", "test"))
        log_missing(self.root / "aclImdb", len(train.y) + len(test.y), 50_000)
        return train, test

    def digest(self, files: Sequence[Path]) -> str:
        return listing_of(files, self.root)


class SMSSpam(_Published):
    """4,827 short messages and 747 that are spam (Almeida et al. 2011, https://doi.org/10.1145/2034691.2034742). The set has no
    test split of its own: a stratified quarter is held out, the same for all runs."""

    name = "SMS spam"
    layout = "SMSSpamCollection, or SMSSpamCollection.gz"
    path = "ucirvine/sms_spam"
    columns = ("sms", "label")

    def files(self) -> list[Path]:
        path = packed_or_not(self.root / "SMSSpamCollection")
        return [] if path is None else [path]

    def local(self, files: Sequence[Path]) -> tuple[Texts, Texts | None]:
        return numbered(read_columns(files[0], 1, 0), files[0], ["ham", "spam"]), None


class TextFile(TextSource):
    """Texts of your own, a row each, in a file whose values are kept apart by commas, semicolons or tabs, packed or not.

    Args:
        root: folder of the files.
        path: of the rows, below the folder, or else the working one.
        test: likewise of rows for the test; None: a stratified quarter is held out, the same for all runs.
        text, target: columns of texts and labels.
        positive: values of the target that are class 1, every other one is class 0.
        negative: likewise, values that are class 0. Neither: every value is a class, in their order as text.
        settings: those of `TextSource`.

    Raises:
        DataError: on `load`, naming the file, the row and what to do.
    """

    @checked
    def __init__(
        self,
        *,
        root: str,
        path: str,
        test: str | None = None,
        text: str = "text",
        target: str = "label",
        positive: Value | Sequence[Value] | None = None,
        negative: Value | Sequence[Value] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root, self.path, self.test = Path(root).expanduser().resolve(), path, test
        self.text, self.target, self.naming = text, target, Naming(target, positive, negative)

    def measure(self) -> Measured:
        files = located_files(self.root, self.path, self.test)
        labels = self._read(files[0])[1]
        return Measured((self.length,), len(self.naming.classes(labels, files[0].name)), bytes_of(files))

    def load(self) -> Arrays:
        files = located_files(self.root, self.path, self.test)
        unchanged(self.content, bytes_of(files), " and ".join(map(str, files)))
        parts = [self._read(path) for path in files]
        names = self.naming.classes(parts[0][1], files[0].name)
        train, *test = (
            Texts(texts, torch.tensor(self.naming.numbers(labels, names, path.name)))
            for (texts, labels), path in zip(parts, files, strict=True)
        )
        return _arrays(train, test[0] if test else None, parts[0][1], f"{files[0].name}, {self.target}")

    def _read(self, path: Path) -> tuple[np.ndarray, list[str]]:
        """Texts and the names of their classes."""
        texts, values = read_columns(path, self.text, self.target)
        return texts, self.naming(values.tolist(), path.name)


def _arrays(train: Texts, test: Texts | None, labels: Sequence[str] | Sequence[int], where: str) -> Arrays:
    """The splits of a set; without a test split a quarter is held out, stratified by the labels of the training split.

    Raises:
        DataError: a class is too small to be on all sides.
    """
    if test is not None:
        return Arrays(train.x, train.y, test.x, test.y)
    kept, held = held_out(labels, 0.25, where)
    return Arrays(train.x[kept], train.y[kept], train.x[held], train.y[held])
