"""Files of rows, read with errors that say where the mistake is."""

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from temper.data.sources.interfaces import DataError

SEPARATORS = "\t;,"
DAMAGES = (EOFError, OSError, zlib.error, pd.errors.ParserError)


def packed_or_not(path: Path) -> Path | None:
    """The file, or the same packed by gzip; None: neither is there."""
    return next((one for one in (path, path.with_name(f"{path.name}.gz")) if one.is_file()), None)


def searched(name: str, root: Path) -> Path | None:
    """A file of one's own, below `root` or else the working folder, packed by gzip or not."""
    return packed_or_not(root / name) or packed_or_not(Path.cwd() / name)


def located(name: str, root: Path, key: str) -> Path:
    """The same.

    Raises:
        DataError: it is in neither.
    """
    path = searched(name, root)
    if path is None:
        raise not_found(name, root, key)
    return path


def located_files(root: Path, path: str, test: str | None) -> list[Path]:
    """That of the rows and, if there is one, that of rows for the test.

    Raises:
        DataError: one is in neither folder.
    """
    named = {"path": path} if test is None else {"path": path, "test": test}
    return [located(name, root, key) for key, name in named.items()]


def not_found(name: str, root: Path, key: str, why: str = "") -> DataError:
    return DataError(
        f"{name} was not found in {root} or {Path.cwd()}{why}. Put it there, name the folder that holds it: "
        f"paths.data=FOLDER, or another file: data.source.{key}=FILE"
    )


def read_rows(
    path: Path, *, names: Sequence[str] | None = None, header: bool = True, literal: bool = False, **form: Any
) -> pd.DataFrame:
    """Rows of values that are kept apart by commas, semicolons or tabs, whichever the first line has most of.

    Args:
        names: of the columns, where the file does not begin with them.
        header: whether there are names at all; if not, values are kept apart by tabs, and columns are numbered from 0.
        literal: whether quotation marks between tabs are part of a value.
        form: further arguments of `pandas.read_csv`.

    Raises:
        DataError: the file is empty, cut short or no UTF-8, or it is not clear which value belongs to which column.
    """
    try:
        first = first_line(path)
        separator = separator_of(first) if header else "\t"
        if literal and separator == "\t":
            form["quoting"] = csv.QUOTE_NONE
        named = [] if not header else names or next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        if twice := sorted({name for name in named if name and named.count(name) > 1}):
            raise DataError(f"{path} has several columns of the name {', '.join(twice)}: give each a name of its own")
        form |= {"names": None if names is None else list(names), "header": 0 if header and names is None else None}
        # "NA" and "None" may be categories or texts: nothing but an empty field is missing.
        form |= {"encoding": "utf-8", "keep_default_na": False, "na_values": [""], "index_col": False, "low_memory": False}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # values beyond the last column
            frame = cast(pd.DataFrame, pd.read_csv(path, sep=separator, **form))
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} holds no rows: bring the file, or name another one") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not encoded as UTF-8 ({error.reason} at byte {error.start}): iconv -t UTF-8 rewrites it"
        ) from None
    except pd.errors.ParserWarning:
        raise DataError(f"{path}: rows have more values than the {len(named)} columns that have names; name them all") from None
    except DAMAGES as error:
        raise DataError(
            f"{path} is damaged or was cut short ({str(error).strip().splitlines()[0]}): bring it whole, or name another one"
        ) from None
    if header:
        frame.columns = frame.columns.str.strip()
    return frame


def first_line(path: Path) -> str:
    """Of a text file, packed by gzip or not, without what marks its encoding."""
    with gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file:
        return file.readline().rstrip("\r\n")


def separator_of(line: str) -> str:
    """What keeps the values of a line apart, quoted ones aside."""
    return max(SEPARATORS, key=re.sub(r'"[^"]*"', "", line).count)
