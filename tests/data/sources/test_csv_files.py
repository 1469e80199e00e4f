"""Files of rows: what keeps values apart is seen in the file, and no value ends in a column that it does not belong to."""

import gzip
from pathlib import Path

import pytest

from temper.data import DataError
from temper.data.sources.csv_files import read_rows

LINES = ["name,size,note", "ant,1,small", "bee,2.5,NA"]


def written(folder: Path, text: str, encoding: str = "utf-8", name: str = "rows.csv") -> Path:
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
def test_ways_to_write_the_same_rows(text: str, tmp_path: Path) -> None:
    frame = read_rows(written(tmp_path, text))
    assert frame.to_dict("list") == {"name": ["ant", "bee"], "size": [1, 2.5], "note": ["small", "NA"]}


def test_what_is_quoted_keeps_no_values_apart(tmp_path: Path) -> None:
    frame = read_rows(written(tmp_path, '"a;b;c","d;e;f"\n"1;2","3"\n'))
    assert frame.to_dict("list") == {"a;b;c": ["1;2"], "d;e;f": [3]}


def test_a_first_column_without_a_name_has_one(tmp_path: Path) -> None:
    assert list(read_rows(written(tmp_path, ",a,b\n0,1,2\n")).columns) == ["Unnamed: 0", "a", "b"], "it can be ignored"


def test_rows_without_names_are_numbered_or_given_some(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\tc\nd\te\n")
    assert read_rows(path, header=False).to_dict("list") == {0: ["a,b", "d"], 1: ["c", "e"]}
    assert list(read_rows(path, names=["x", "y"]).columns) == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no rows"),
        (b"a,b,a\n1,2,3\n", "has several columns of the name a: give each a name of its own"),
        (b"a,b\n1,2,3\n4,5,6\n", r"rows have more values than the 2 columns that have names"),
        (b"a,b\n1,2\n4,5,6\n", r"is damaged or was cut short \(.*Expected 2 fields in line 3, saw 3"),
        ("a,b\n1,é\n".encode("latin-1"), "is not encoded as UTF-8 .*iconv -t UTF-8"),
        (b'a,b\n1,"2\n', "is damaged or was cut short"),
    ],
)
def test_what_cannot_be_read_is_said(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(content))
    for one in (path, packed):
        with pytest.raises(DataError, match=rf"{one}.*{message}"):
            read_rows(one)
    with pytest.raises(DataError, match=r"several columns of the name x"):
        read_rows(written(tmp_path, "1,2\n"), names=["x", "x"])
