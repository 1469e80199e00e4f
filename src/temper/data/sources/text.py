"""Texts with a label: files on this machine, or what Hugging Face `datasets` fetches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from temper.arguments import Count, checked
from temper.data.sources.reading import Texts, found, labelled, read_columns, read_folders
from temper.data.sources.source import Arrays, DataError
from temper.data.vocabulary import Vocabulary


class TextSource(ABC):
    """Texts, numbered by a vocabulary of the training split.

    Args:
        vocabulary: of so many tokens at most, padding and unknown words included.
        length: tokens of a text; longer ones are cut.
    """

    @checked
    def __init__(self, *, vocabulary: Count = 10_000, length: Count = 64) -> None:
        self.vocabulary, self.length = vocabulary, length

    @abstractmethod
    def load(self) -> Arrays: ...

    def fit(self, x: np.ndarray, y: Tensor) -> Vocabulary:
        return Vocabulary.learn(x, size=self.vocabulary, length=self.length)


class _Published(TextSource):
    """A data set that lies in a folder, or is fetched by `datasets`, which keeps it in a cache of its own.

    Args:
        root: the folder that may hold its files.
        download: fetch it where they are missing.
        vocabulary, length: settings of `TextSource`.
    """

    name: ClassVar[str]
    layout: ClassVar[str]  # of its files in the root, for messages
    path: ClassVar[str]  # of the data set on the Hugging Face hub
    columns: ClassVar[tuple[str, str]]  # there, of text and label

    @checked
    def __init__(self, *, root: str, download: bool = True, vocabulary: Count = 10_000, length: Count = 64) -> None:
        super().__init__(vocabulary=vocabulary, length=length)
        self.root, self.download = Path(root).expanduser().resolve(), download

    def load(self) -> Arrays:
        splits = self.local()
        if splits is None:
            if not self.download:
                raise self._missing("and data.source.download is false")
            splits = self._fetched()
        return _arrays(*splits)

    @abstractmethod
    def local(self) -> tuple[Texts, Texts | None] | None:
        """The training and, if there is one, the test split; None where the files are missing."""

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

    def local(self) -> tuple[Texts, Texts | None] | None:
        for folder in (self.root / "sst2", self.root / "SST-2"):
            paths = [found(folder / f"{split}.tsv") for split in ("train", "dev")]
            if paths[0] is not None and paths[1] is not None:
                train, dev = (labelled(read_columns(path, "sentence", "label"), path, ["0", "1"]) for path in paths if path)
                return train, dev
        return None


class IMDB(_Published):
    """25,000 + 25,000 film reviews, negative or positive (Maas et al. 2011, https://aclanthology.org/P11-1015)."""

    name = "IMDB"
    layout = "aclImdb/{train,test}/{neg,pos}/*.txt, as its archive has them"
    path = "stanfordnlp/imdb"
    columns = ("text", "label")

    def local(self) -> tuple[Texts, Texts | None] | None:
        folder = self.root / "aclImdb"
        if not folder.is_dir():
            return None
        train, test = (read_folders(folder / split, ["neg", "pos"]) for split in ("train", "test"))
        return train, test


class SMSSpam(_Published):
    """4,827 short messages and 747 that are spam (Almeida et al. 2011, https://doi.org/10.1145/2034691.2034742). The set has no
    test split of its own: a stratified quarter is held out, the same for all runs."""

    name = "SMS spam"
    layout = "SMSSpamCollection, or SMSSpamCollection.gz"
    path = "ucirvine/sms_spam"
    columns = ("sms", "label")

    def local(self) -> tuple[Texts, Texts | None] | None:
        path = found(self.root / "SMSSpamCollection")
        return None if path is None else (labelled(read_columns(path, 1, 0), path, ["ham", "spam"]), None)


class TextFile(TextSource):
    """Texts of your own, a row each: in columns of a .csv or .tsv file, which may be packed (.gz).

    Args:
        train: path of the file.
        test: path of a second one; None: a stratified quarter of the first is held out, the same for all runs.
        text, label: names of the columns.
        labels: what stands in the label column, in the order of the classes; None: in that of the alphabet.
        vocabulary, length: settings of `TextSource`.

    Raises:
        DataError: on `load`, naming the file, the line and what to do.
    """

    @checked
    def __init__(
        self,
        *,
        train: str,
        test: str | None = None,
        text: str = "text",
        label: str = "label",
        labels: Sequence[str | int] | None = None,
        vocabulary: Count = 10_000,
        length: Count = 64,
    ) -> None:
        super().__init__(vocabulary=vocabulary, length=length)
        self.train, self.test, self.text, self.label = Path(train).expanduser(), test, text, label
        self.labels = None if labels is None else list(map(str, labels))

    def load(self) -> Arrays:
        columns = read_columns(self.train, self.text, self.label)
        labels = sorted(set(columns[1])) if self.labels is None else self.labels
        train = labelled(columns, self.train, labels)
        if self.test is None:
            return _arrays(train, None)
        test = Path(self.test).expanduser()
        return _arrays(train, labelled(read_columns(test, self.text, self.label), test, labels))


def _arrays(train: Texts, test: Texts | None) -> Arrays:
    """The splits of a set; without a test split a stratified quarter is held out.

    Raises:
        DataError: a class is too small to be on both sides.
    """
    if test is not None:
        return Arrays(train.x, train.y, test.x, test.y)
    try:
        kept, held = train_test_split(np.arange(len(train.y)), test_size=0.25, stratify=train.y.numpy(), random_state=0)
    except ValueError as error:
        raise DataError(f"no test split can be held out with every class on both sides ({error})") from None
    return Arrays(train.x[kept], train.y[kept], train.x[held], train.y[held])
