"""Files of texts, read with errors that say where the mistake is."""

import csv
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from temper.data.sources.source import DataError


class Texts(NamedTuple):
    """N texts, an object array of strings, and their labels (N,) int64."""

    x: np.ndarray
    y: Tensor


def found(path: Path) -> Path | None:
    """The file, or the same packed by gzip; None: neither is there."""
    return next((one for one in (path, path.with_name(f"{path.name}.gz")) if one.is_file()), None)


def read_columns(path: Path, text: str | int, label: str | int) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of a .csv file, or of one whose values are kept apart by tabs and hold their quotation marks.

    Args:
        text, label: the columns by name; by position in a file that has no header.

    Returns:
        Texts and labels, strings, (N,) each.

    Raises:
        DataError: the file is missing, cut short, no UTF-8 or no table; it has no such column, or a row has no value there.
    """
    header = isinstance(text, str)
    commas = path.name.removesuffix(".gz").endswith(".csv")
    form: dict[str, Any] = {} if commas else {"sep": "\t", "quoting": csv.QUOTE_NONE}
    # "NA" and "null" are words: nothing but an empty value is missing.
    form |= {"header": 0 if header else None, "dtype": str, "keep_default_na": False, "na_values": [""]}
    try:
        table = pd.read_csv(path, encoding="utf-8", skip_blank_lines=False, **form)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; name one that exists") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut short or damaged ({error}); fetch it again") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not encoded as UTF-8 ({error.reason} at byte {error.start}): iconv -t UTF-8 rewrites it"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table ({str(error).strip()})") from None
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


def labelled(columns: tuple[np.ndarray, np.ndarray], path: Path, labels: Sequence[str]) -> Texts:
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
