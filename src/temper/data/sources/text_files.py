"""Files of texts, read with errors that say where the mistake is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from temper.data.sources.csv_files import read_rows
from temper.data.sources.interfaces import DataError


class Texts(NamedTuple):
    """N texts, an object array of strings, and their labels (N,) int64."""

    x: np.ndarray
    y: Tensor


def read_columns(path: Path, text: str | int, label: str | int) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of a file of rows. Where its values are kept apart by tabs, quotation marks are part of them.

    Args:
        text, label: the columns by name; by position in a file of tabs that has no header.

    Returns:
        Texts and labels, strings, (N,) each.

    Raises:
        DataError: the file cannot be read, has no such column, or a row has no value there.
    """
    header = isinstance(text, str)
    table = read_rows(path, header=header, literal=True, dtype=str, skip_blank_lines=False)
    for column in (text, label):
        if column not in table.columns:
            raise DataError(f"{path} has no column {column!r}; it has {', '.join(map(repr, table.columns))}")
    texts, labels = (table[column].to_numpy(dtype=object) for column in (text, label))
    for what, values in (("text", texts), ("label", labels)):
        blank = [row for row, value in enumerate(values) if not isinstance(value, str) or not value.strip()]
        if blank:
            first = blank[0] + 1
            raise DataError(f"{path}: row {first} has no {what}, of {len(blank)} such rows; fill them in or take them out")
    return texts, np.array([value.strip() for value in labels], dtype=object)


def numbered(columns: tuple[np.ndarray, np.ndarray], path: Path, labels: Sequence[str]) -> Texts:
    """The same with labels as the numbers of classes, in the order of `labels`.

    Raises:
        DataError: a row has another label.
    """
    texts, given = columns
    number = {label: position for position, label in enumerate(labels)}
    if unknown := sorted(set(given) - set(number)):
        raise DataError(f"{path} has label {unknown[0]!r}, which is none of {', '.join(map(repr, labels))}")
    return Texts(texts, torch.tensor([number[label] for label in given], dtype=torch.int64))


def read_folders(folder: Path, classes: Sequence[str]) -> Texts:
    """A text for each .txt file, its class the name of the folder that it lies in; by class, then by name.

    Raises:
        DataError: a class has no files, or one of them cannot be read.
    """
    texts, labels = [], []
    for number, name in enumerate(classes):
        paths = sorted((folder / name).glob("*.txt"))
        if not paths:
            raise DataError(f"{folder / name} holds no .txt files; unpack the archive again")
        for path in paths:
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, OSError) as error:
                raise DataError(f"{path} cannot be read ({error})") from None
            if not texts[-1].strip():
                raise DataError(f"{path} is an empty text; fill it in or take it out")
            labels.append(number)
    return Texts(np.array(texts, dtype=object), torch.tensor(labels))
