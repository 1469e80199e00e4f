"""Readers of text files, with errors that name the file, the mistake and the fix."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from temper.data.sources.csv_files import read_rows
from temper.data.sources.interfaces import DataError


class LabeledTexts(NamedTuple):
    """Texts with their labels.

    Attributes:
        x: Texts (N,), an object array of strings.
        y: Labels (N,) int64.
    """

    x: np.ndarray
    y: Tensor


def read_columns(path: Path, text: str | int, label: str | int) -> tuple[np.ndarray, np.ndarray]:
    """Read the columns of texts and labels. In a file with tabs, quotation marks are a part of the values.

    Args:
        path: File of rows.
        text: Column of the texts: its name, or its position in a file with tabs and no header.
        label: Column of the labels: its name or position.

    Returns:
        Texts and labels as strings, (N,) each.

    Raises:
        DataError: The file cannot be read or lacks a column, or a row has no text or label.
    """
    header = isinstance(text, str)
    table = read_rows(path, header=header, literal=True, dtype=str, skip_blank_lines=False)
    for column in (text, label):
        if column not in table.columns:
            raise DataError(f"{path} has no column {column!r}. Its columns are {', '.join(map(repr, table.columns))}.")
    texts, labels = (table[column].to_numpy(dtype=object) for column in (text, label))
    for field, values in (("text", texts), ("label", labels)):
        blank = [row for row, value in enumerate(values) if not isinstance(value, str) or not value.strip()]
        if blank:
            raise DataError(
                f"{path}: row {blank[0] + 1} has no {field}; rows without one: {len(blank)}. Fill them in or remove them."
            )
    return texts, np.array([value.strip() for value in labels], dtype=object)


def read_labeled_texts(path: Path, text: str | int, label: str | int, classes: Sequence[str]) -> LabeledTexts:
    """Read texts and labels from a file of rows (see `read_columns`).

    Args:
        path: File of rows.
        text: Column of the texts.
        label: Column of the labels.
        classes: Names of the classes, in the order of their numbers.

    Raises:
        DataError: The file cannot be read, or a label is not in `classes`.
    """
    texts, labels = read_columns(path, text, label)
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(labels) - set(numbers)):
        raise DataError(f"{path}: unknown label {unknown[0]!r}. Labels should be one of {', '.join(map(repr, classes))}.")
    return LabeledTexts(texts, torch.tensor([numbers[name] for name in labels], dtype=torch.int64))


def read_folders(folder: Path, classes: Sequence[str]) -> LabeledTexts:
    """Read one text per .txt file from one folder per class, in the order of the classes and file names.

    Args:
        folder: Parent of the class folders.
        classes: Names of the class folders, in the order of their numbers.

    Raises:
        DataError: A class has no files, or a file is empty or cannot be read.
    """
    texts, labels = [], []
    for number, name in enumerate(classes):
        paths = sorted((folder / name).glob("*.txt"))
        if not paths:
            raise DataError(f"{folder / name} has no .txt files. Unpack the archive again.")
        for path in paths:
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, OSError) as error:
                raise DataError(f"{path} cannot be read ({error}). Unpack the archive again.") from None
            if not texts[-1].strip():
                raise DataError(f"{path} is empty. Fill in a text, or delete the file.")
            labels.append(number)
    return LabeledTexts(np.array(texts, dtype=object), torch.tensor(labels))
