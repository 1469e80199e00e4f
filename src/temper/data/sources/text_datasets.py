"""Sources of labeled texts: local files, or data sets that Hugging Face `datasets` downloads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from temper.config.errors import first_line
from temper.config.types import Count, checked
from temper.data.sources.csv_files import find_plain_or_gzip, locate_files
from temper.data.sources.fingerprint import check_unchanged, digest_contents, digest_listing, warn_if_incomplete
from temper.data.sources.interfaces import Arrays, DataError, DatasetInfo, Encoder
from temper.data.sources.labels import LabelMapping, Value, split_train_test
from temper.data.sources.pretrained_tokens import PretrainedTokens
from temper.data.sources.text_files import LabeledTexts, read_columns, read_folders, read_labeled_texts
from temper.data.vocabulary import Vocabulary


class TextSource(ABC):
    """Texts, encoded by a vocabulary of the training split or by the tokenizer of a pretrained network.

    Args:
        vocabulary: Maximum number of tokens of the vocabulary, including padding and unknown words.
        length: Tokens per text. Longer texts are cut.
        tokenizer: Tokenizer of transformers, by name or folder. None means words and the vocabulary.
        content: Digest that `measure` returned when the run was configured. None means no check.
    """

    @checked
    def __init__(
        self, *, vocabulary: Count = 10_000, length: Count = 64, tokenizer: str | None = None, content: str | None = None
    ) -> None:
        self.vocabulary, self.length, self.tokenizer, self.content = vocabulary, length, tokenizer, content

    @abstractmethod
    def load(self) -> Arrays:
        """Load the data set.

        Raises:
            DataError: Files are missing or invalid.
        """

    @abstractmethod
    def measure(self) -> DatasetInfo:
        """Return shape, classes and digest of the files."""

    def fit(self, x: np.ndarray, y: Tensor) -> Encoder:
        """Return the tokenizer, or a vocabulary of the texts x (N,)."""
        if self.tokenizer is not None:
            tokens = PretrainedTokens(self.tokenizer, length=self.length)
            tokens.log_cuts(x)
            return tokens
        return Vocabulary.learn(x, size=self.vocabulary, length=self.length)


class _PublishedTexts(TextSource):
    """A published data set of two classes, from a local folder or downloaded by `datasets` into its own cache.

    Args:
        root: Folder that may have the files.
        download: Download the data set if its files are missing.
        settings: Settings of `TextSource`.

    Attributes:
        name: Name of the data set, for messages.
        layout: Description of its files below `root`, for messages.
        path: Its path on the Hugging Face hub.
        columns: Columns of text and label on the Hugging Face hub.
    """

    name: ClassVar[str]
    layout: ClassVar[str]
    path: ClassVar[str]
    columns: ClassVar[tuple[str, str]]

    @checked
    def __init__(self, *, root: str, download: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.root, self.download = Path(root).expanduser().resolve(), download

    def measure(self) -> DatasetInfo:
        files = self.files()
        return DatasetInfo((self.length,), 2, self.digest(files) if files else f"fetched {self.path}")

    def load(self) -> Arrays:
        files = self.files()
        if not files and not self.download:
            raise self._not_found_error("and data.source.download is false")
        check_unchanged(self.content, self.measure().content, self.root)
        train, test = self.read(files) if files else self._fetch()
        return _arrays(train, test, train.y.tolist(), self.name)

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files of the data set, or an empty list if one is missing."""

    @abstractmethod
    def read(self, files: Sequence[Path]) -> tuple[LabeledTexts, LabeledTexts | None]:
        """Read the training split and, if there is one, the test split."""

    def digest(self, files: Sequence[Path]) -> str:
        """Return the digest of the files."""
        return digest_contents(files)

    def _fetch(self) -> tuple[LabeledTexts, LabeledTexts | None]:
        try:
            from datasets import load_dataset
        except ImportError:
            raise self._not_found_error(
                "and the package datasets, which downloads it, is not installed (pip install 'temper[text]')"
            ) from None
        try:
            splits = load_dataset(self.path)
        except Exception as error:  # without a network or with a partial cache, datasets raises many types
            raise self._not_found_error(f"and the download failed ({first_line(error)})") from error
        text, label = self.columns
        # The test split of GLUE has no labels; the literature reports its validation split.
        parts = [splits[name] for name in ("train", "validation" if "validation" in splits else "test") if name in splits]
        train, *test = (LabeledTexts(np.array(part[text], dtype=object), torch.tensor(part[label])) for part in parts)
        return train, test[0] if test else None

    def _not_found_error(self, why: str) -> DataError:
        return DataError(
            f"{self.name} was not found in {self.root}, {why}. Put its files there ({self.layout}), or set "
            "data.source.root=FOLDER."
        )


class SST2(_PublishedTexts):
    """Stanford Sentiment Treebank with two classes (Socher et al. 2013, https://aclanthology.org/D13-1170), as in GLUE.

    67,349 phrases of film reviews, negative or positive. The test split is GLUE's validation split of 872 sentences.

    Args:
        root: Folder that may have the files.
        download: Download the data set if its files are missing.
        settings: Settings of `TextSource`.
    """

    name = "SST-2"
    layout = "train.tsv and dev.tsv, optionally with .gz, in sst2 or SST-2"
    path = "stanfordnlp/sst2"
    columns = ("sentence", "label")

    def files(self) -> list[Path]:
        for folder in (self.root / "sst2", self.root / "SST-2"):
            paths = [path for split in ("train", "dev") if (path := find_plain_or_gzip(folder / f"{split}.tsv"))]
            if len(paths) == 2:
                return paths
        return []

    def read(self, files: Sequence[Path]) -> tuple[LabeledTexts, LabeledTexts | None]:
        train, dev = (read_labeled_texts(path, "sentence", "label", ["0", "1"]) for path in files)
        return train, dev


class IMDB(_PublishedTexts):
    """25,000 + 25,000 film reviews, negative or positive (Maas et al. 2011, https://aclanthology.org/P11-1015).

    Args:
        root: Folder that may have the files.
        download: Download the data set if its files are missing.
        settings: Settings of `TextSource`.
    """

    name = "IMDB"
    layout = "aclImdb/{train,test}/{neg,pos}/*.txt, as in its archive"
    path = "stanfordnlp/imdb"
    columns = ("text", "label")

    def files(self) -> list[Path]:
        return sorted((self.root / "aclImdb").glob("*/*/*.txt"))

    def read(self, files: Sequence[Path]) -> tuple[LabeledTexts, LabeledTexts | None]:
        train, test = (read_folders(self.root / "aclImdb" / split, ["neg", "pos"]) for split in ("train", "test"))
        warn_if_incomplete(self.root / "aclImdb", len(train.y) + len(test.y), 50_000)
        return train, test

    def digest(self, files: Sequence[Path]) -> str:
        return digest_listing(files, self.root)


class SMSSpam(_PublishedTexts):
    """4,827 short messages and 747 spam messages (Almeida et al. 2011, https://doi.org/10.1145/2034691.2034742).

    A stratified quarter is held out as the test split, the same for all runs.

    Args:
        root: Folder that may have the files.
        download: Download the data set if its files are missing.
        settings: Settings of `TextSource`.
    """

    name = "SMS spam"
    layout = "SMSSpamCollection, or SMSSpamCollection.gz"
    path = "ucirvine/sms_spam"
    columns = ("sms", "label")

    def files(self) -> list[Path]:
        path = find_plain_or_gzip(self.root / "SMSSpamCollection")
        return [] if path is None else [path]

    def read(self, files: Sequence[Path]) -> tuple[LabeledTexts, LabeledTexts | None]:
        return read_labeled_texts(files[0], 1, 0, ["ham", "spam"]), None


class TextFile(TextSource):
    """Texts of a file with one text per row, separated by commas, semicolons or tabs, optionally compressed by gzip.

    Args:
        root: Folder of the files.
        path: File of the rows, below `root` or else below the working folder.
        test: File of the test rows, in the same folders. None holds out a stratified quarter of the rows, the same for all
            runs.
        text: Column of the texts.
        target: Column of the labels.
        positive: Values of the target that are class 1; all other values are class 0.
        negative: Values of the target that are class 0; all other values are class 1. With neither, every value is a class, in
            alphabetical order.
        settings: Settings of `TextSource`.

    Raises:
        DataError: On `load` and `measure`: a file is missing, damaged or changed, or a row is invalid.
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
        self.text, self.target, self.label_mapping = text, target, LabelMapping(target, positive, negative)

    def measure(self) -> DatasetInfo:
        files = locate_files(self.root, self.path, self.test)
        names = self._read(files[0])[1]
        return DatasetInfo((self.length,), len(self.label_mapping.classes(names, files[0].name)), digest_contents(files))

    def load(self) -> Arrays:
        files = locate_files(self.root, self.path, self.test)
        check_unchanged(self.content, digest_contents(files), " and ".join(map(str, files)))
        parts = [self._read(path) for path in files]
        classes = self.label_mapping.classes(parts[0][1], files[0].name)
        train, *test = (
            LabeledTexts(texts, torch.tensor(self.label_mapping.encode(names, classes, path.name)))
            for (texts, names), path in zip(parts, files, strict=True)
        )
        return _arrays(train, test[0] if test else None, parts[0][1], f"{files[0].name}, {self.target}")

    def _read(self, path: Path) -> tuple[np.ndarray, list[str]]:
        """Return the texts and the class name of each row."""
        texts, values = read_columns(path, self.text, self.target)
        return texts, self.label_mapping.names(values.tolist(), path.name)


def _arrays(train: LabeledTexts, test: LabeledTexts | None, labels: Sequence[str] | Sequence[int], where: str) -> Arrays:
    """Return both splits as arrays; without a test split, hold out a quarter of the training split.

    Args:
        train: Training split.
        test: Test split, or None.
        labels: Labels of the training split, by which it is stratified and which messages name.
        where: Name of the data set, for messages.

    Raises:
        DataError: A class is too small to hold out a part of it.
    """
    if test is not None:
        return Arrays(train.x, train.y, test.x, test.y)
    kept, held = split_train_test(labels, 0.25, where)
    return Arrays(train.x[kept], train.y[kept], train.x[held], train.y[held])
