"""Readers of CSV and TSV files, with errors that name the file, the mistake and the fix."""

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from temper.config.errors import first_line
from temper.data.sources.interfaces import DataError

SEPARATORS = "\t;,"
READ_ERRORS = (EOFError, OSError, zlib.error, pd.errors.ParserError)


def find_plain_or_gzip(path: Path) -> Path | None:
    """Return the file, or else its gzip-compressed version `<name>.gz`, or None if neither exists."""
    return next((one for one in (path, path.with_name(f"{path.name}.gz")) if one.is_file()), None)


def find_file(name: str, root: Path) -> Path | None:
    """Return a file below `root` or else below the working folder, compressed or not, or None if there is none."""
    return find_plain_or_gzip(root / name) or find_plain_or_gzip(Path.cwd() / name)


def locate_files(root: Path, path: str, test: str | None) -> list[Path]:
    """Return the file of training rows and, if `test` is given, the file of test rows (see `find_file`).

    Args:
        root: Folder of the files.
        path: Name of the file of training rows.
        test: Name of the file of test rows, or None.

    Raises:
        DataError: A file does not exist.
    """
    files = []
    for key, name in {"path": path, "test": test}.items():
        if name is not None:
            file = find_file(name, root)
            if file is None:
                raise not_found_error(name, root, key)
            files.append(file)
    return files


def not_found_error(name: str, root: Path, key: str, why: str = "") -> DataError:
    """Return the error for a missing file.

    Args:
        name: Name of the file.
        root: Folder in which it was searched.
        key: Key of `data.source` that names the file.
        why: Further reason, appended to the first sentence.
    """
    return DataError(
        f"{name} was not found in {root} or {Path.cwd()}{why}. Put it there, or set paths.data=FOLDER or "
        f"data.source.{key}=FILE."
    )


def read_rows(
    path: Path, *, names: Sequence[str] | None = None, header: bool = True, literal: bool = False, **options: Any
) -> pd.DataFrame:
    """Read a file of rows. Its separator is the comma, semicolon or tab that occurs most often in the first line.

    Args:
        path: The file, gzip-compressed if its name ends in .gz.
        names: Names of the columns, for a file without a header line.
        header: Columns have names, from `names` or the first line. If False, they are numbered from 0 and separated by tabs.
        literal: Keep quotation marks as a part of the values in a file with tabs.
        options: Further arguments of `pandas.read_csv`.

    Raises:
        DataError: The file is empty, damaged or not UTF-8, or its values do not match its columns.
    """
    try:
        first = read_first_line(path)
        separator = detect_separator(first) if header else "\t"
        if literal and separator == "\t":
            options["quoting"] = csv.QUOTE_NONE
        named = [] if not header else names or next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        if repeated := sorted({name for name in named if name and named.count(name) > 1}):
            raise DataError(f"{path}: several columns are named {', '.join(repeated)}. Give each column a unique name.")
        options |= {"names": None if names is None else list(names), "header": 0 if header and names is None else None}
        # "NA" and "None" may be categories or texts: only an empty field is missing.
        options |= {"encoding": "utf-8", "keep_default_na": False, "na_values": [""], "index_col": False, "low_memory": False}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # values beyond the last column
            frame = cast(pd.DataFrame, pd.read_csv(path, sep=separator, **options))
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} has no rows. Restore the file, or name another one.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not encoded as UTF-8 ({error.reason} at byte {error.start}). Convert it with iconv -t UTF-8."
        ) from None
    except pd.errors.ParserWarning:
        raise DataError(f"{path}: rows have more values than the {len(named)} named columns. Name all columns.") from None
    except READ_ERRORS as error:
        raise DataError(
            f"{path} is damaged or incomplete ({first_line(error)}). Restore the file, or name another one."
        ) from None
    if header:
        frame.columns = frame.columns.str.strip()
    return frame


def read_first_line(path: Path) -> str:
    """Return the first line of a text file, compressed or not, without a byte order mark."""
    with gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file:
        return file.readline().rstrip("\r\n")


def detect_separator(line: str) -> str:
    """Return the separator that occurs most often in a line, outside quotation marks."""
    return max(SEPARATORS, key=re.sub(r'"[^"]*"', "", line).count)
