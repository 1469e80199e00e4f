"""Tests of the CSV reader: separators are detected, every value is in its column, and errors name the mistake."""

import gzip
from pathlib import Path

import pytest

from temper.data import DataError
from temper.data.sources.csv_files import read_rows

LINES = ["name,size,note", "ant,1,small", "bee,2.5,NA"]


def write(folder: Path, text: str, encoding: str = "utf-8", name: str = "rows.csv") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\r\n".join(LINES) + "\r\n",
        "\ufeff" + "\n".join(LINES),
        "\n".join(LINES).replace(",", ";"),
        "\n".join(LINES).replace(",", "\t"),
        '"name","size","note"\n"ant","1","small"\n"bee","2.5","NA"\n',
        "name, size ,note\nant,1,small\n\nbee,2.5,NA\n",
    ],
    ids=["plain", "carriage returns", "byte order mark", "semicolons", "tabs", "quotes", "spaces"],
)
def test_equivalent_files_give_the_same_rows(text: str, tmp_path: Path) -> None:
    frame = read_rows(write(tmp_path, text))
    assert frame.to_dict("list") == {"name": ["ant", "bee"], "size": [1, 2.5], "note": ["small", "NA"]}


def test_separators_inside_quotation_marks_are_ignored(tmp_path: Path) -> None:
    frame = read_rows(write(tmp_path, '"a;b;c","d;e;f"\n"1;2","3"\n'))
    assert frame.to_dict("list") == {"a;b;c": ["1;2"], "d;e;f": [3]}


def test_a_first_column_without_a_name_gets_one(tmp_path: Path) -> None:
    assert list(read_rows(write(tmp_path, ",a,b\n0,1,2\n")).columns) == ["Unnamed: 0", "a", "b"], (
        "so that data.source.ignore can name it"
    )


def test_columns_without_a_header_are_numbered_or_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\tc\nd\te\n")
    assert read_rows(path, header=False).to_dict("list") == {0: ["a,b", "d"], 1: ["c", "e"]}
    assert list(read_rows(path, names=["x", "y"]).columns) == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows. Restore the file"),
        (b"a,b,a\n1,2,3\n", "several columns are named a. Give each column a unique name"),
        (b"a,b\n1,2,3\n4,5,6\n", "rows have more values than the 2 named columns"),
        (b"a,b\n1,2\n4,5,6\n", r"is damaged or incomplete \(.*Expected 2 fields in line 3, saw 3"),
        ("a,b\n1,é\n".encode("latin-1"), "is not encoded as UTF-8 .*Convert it with iconv -t UTF-8"),
        (b'a,b\n1,"2\n', "is damaged or incomplete"),
    ],
)
def test_invalid_files_raise_with_the_reason(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    compressed = tmp_path / "rows.csv.gz"
    compressed.write_bytes(gzip.compress(content))
    for file in (path, compressed):
        with pytest.raises(DataError, match=rf"{file}.*{message}"):
            read_rows(file)
    with pytest.raises(DataError, match="several columns are named x"):
        read_rows(write(tmp_path, "1,2\n"), names=["x", "x"])
