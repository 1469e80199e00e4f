"""Tests of text sources: files, folders, downloads and errors."""

import gzip
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from temper.data import IMDB, SST2, DataError, DataModule, SMSSpam, TextFile
from temper.data.loading import build_data
from tests.conftest import FILES, composed, real_texts

REVIEWS = FILES / "reviews.csv"


def text_file(path: Path, **settings: Any) -> TextFile:
    return TextFile(root=str(path.parent), path=path.name, **settings)


def test_columns_give_texts_and_classes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,note,text\n" + 'yes,x,"Well, ""fine"""\nno,x,NA\n' * 4)
    x, y, x_test, y_test = text_file(path, test=path.name, positive="yes").load()
    assert list(x[:2]) == ['Well, "fine"', "NA"], "NA is a text, not a missing value"
    assert y.tolist() == y_test.tolist() == [1, 0] * 4 and list(x_test) == list(x)
    assert text_file(path, test=path.name).load().y_train.tolist() == [1, 0] * 4, "in alphabetical order"


def test_quotation_marks_are_kept_in_files_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b'text\tlabel\nan "open quote\t0\nplain\t1\n'))
    assert list(text_file(path, test=path.name).load().x_train) == ['an "open quote', "plain"]


def test_a_quarter_is_held_out_without_a_test_file() -> None:
    arrays = text_file(REVIEWS).load()
    assert list(arrays.x_test) == list(text_file(REVIEWS).load().x_test)
    assert len(arrays.x_train) == 90 and arrays.y_test.bincount().tolist() == [15, 15]


def test_the_vocabulary_is_learned_from_the_training_split_alone(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("text,label\n" + "good film,1\nbad film,0\n" * 20)
    test.write_text("text,label\nunheard unheard film,1\nbad film,0\n")
    data = DataModule(source=text_file(train, test=test.name, length=4), shape=[4], classes=2)
    assert data.split("test").x[0].tolist() == [1, 1, 2, 0]
    batch = next(iter(data.loader("test", batch_size=2)))
    assert batch.mask is not None and batch.mask[1, :, 0].tolist() == [1, 1, 0, 0]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def rewrite(text: str, encoding: str = "utf-8") -> Callable[[Path], object]:
    return lambda path: path.write_bytes(gzip.compress(text.encode(encoding)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "is damaged or incomplete .*Restore the file"),
        (lambda path: path.write_bytes(b"no gzip"), "is damaged or incomplete"),
        (rewrite("text,label\nun café,1\n", "latin-1"), "is not encoded as UTF-8 .*Convert it with iconv"),
        (rewrite(""), "has no rows"),
        (rewrite("words,label\na,1\n"), "has no column 'text'. Its columns are 'words', 'label'"),
        (rewrite("text,label\na,1\n,0\n"), "row 2 has no text; rows without one: 1. Fill them in or remove them"),
        (rewrite('text,label\na,1\n" ",0\n'), "row 2 has no text"),
        (rewrite("text,label\na,1\nb,\nc,\n"), "row 2 has no label; rows without one: 2"),
        (rewrite('text,label\na,1\n"b,0\n'), "is damaged or incomplete"),
        (rewrite("text,label\na,1\nb,1\n"), "column label is 1 in every row. Add rows of another class"),
        (rewrite("text,label\na,1\n" + "b,0\n" * 9), "label: class 1 has 1 row.*data.source.positive"),
    ],
)
def test_an_invalid_file_raises_with_the_reason_and_the_way_out(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"some text,1\n" * 500))
    damage(path)
    with pytest.raises(DataError, match=rf"{path.name}.*{message}"):
        text_file(path).load()


def test_a_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv was not found in .*paths\.data=FOLDER.*data\.source\.path=FILE"):
        text_file(tmp_path / "none.csv").load()


def test_a_class_that_occurs_in_test_rows_alone_raises(tmp_path: Path) -> None:
    for name, labels in (("a.csv", "01"), ("b.csv", "012")):
        (tmp_path / name).write_text("text,label\n" + "".join(f"a,{label}\n" for label in labels))
    with pytest.raises(DataError, match=r"b\.csv: column label has 2, which no training row has. Remove these rows"):
        text_file(tmp_path / "a.csv", test="b.csv").load()
    assert text_file(tmp_path / "a.csv", test="b.csv", negative=0).load().y_test.tolist() == [0, 1, 1]


def test_imdb_is_read_from_its_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "test"):
        for name in ("neg", "pos"):
            folder = tmp_path / "aclImdb" / split / name
            folder.mkdir(parents=True)
            (folder / "1.txt").write_text(f"{name} {split}")
    x, y, x_test, _ = IMDB(root=str(tmp_path), download=False).load()
    assert "has 4 of 50000 examples; unpack the archive again" in caplog.text
    assert list(x) == ["neg train", "pos train"] and y.tolist() == [0, 1] and x_test[1] == "pos test"
    (tmp_path / "aclImdb/test/pos/1.txt").write_text(" ")
    with pytest.raises(DataError, match=r"pos/1\.txt is empty"):
        IMDB(root=str(tmp_path), download=False).load()
    (tmp_path / "aclImdb/test/pos/1.txt").unlink()
    with pytest.raises(DataError, match=r"has no \.txt files. Unpack the archive again"):
        IMDB(root=str(tmp_path), download=False).load()


@pytest.mark.parametrize("source", [SST2, IMDB, SMSSpam])
def test_missing_data_sets_raise_with_the_expected_folder(
    source: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=rf"was not found in {tmp_path}, and data.source.download is false.*source.root=FOLDER"):
        source(root=str(tmp_path), download=False).load()

    def no_network(path: str) -> None:
        raise ConnectionError(f"Couldn't reach {path!r} on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", no_network)
    with pytest.raises(DataError, match=r"the download failed \(Couldn't reach .*source.root=FOLDER"):
        source(root=str(tmp_path)).load()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DataError, match=r"package datasets, which downloads it, is not installed \(pip install 'temper\[text\]'\)"
    ):
        source(root=str(tmp_path)).load()
    assert not list(tmp_path.iterdir()), "failed downloads leave no files"


@pytest.mark.parametrize(
    ("source", "splits", "columns"),
    [
        (SST2, ("train", "validation", "test"), ("sentence", "label")),
        (IMDB, ("train", "test", "unsupervised"), ("text", "label")),
        (SMSSpam, ("train",), ("sms", "label")),
    ],
)
def test_splits_that_datasets_downloads(
    source: type, splits: tuple[str, ...], columns: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, label = columns
    downloaded = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {text: [f"{split} {row}" for row in range(8)], label: [row % 2 for row in range(8)]}
            )
            for split in splits
        }
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda path: downloaded)
    x, y, x_test, y_test = source(root=str(tmp_path)).load()
    assert len(x) == (6 if splits == ("train",) else 8) and x[0].startswith("train")
    assert x_test[0].startswith({"sst2": "validation", "imdb": "test"}.get(source.__name__.lower(), "train"))
    assert y.tolist().count(1) == len(y) // 2 and y_test.tolist().count(1) == len(y_test) // 2


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "sizes", "positive"), [("sst2", (66002, 1347, 872), 0.509), ("sms_spam", (3762, 418, 1394), 0.134)]
)
def test_real_texts(name: str, sizes: tuple[int, ...], positive: float) -> None:
    here = (f"data.source.root={real_texts()}", "data.source.download=false", "model=text_cnn")
    data = build_data(composed(f"data={name}", *here))
    assert tuple(len(data.split(split).y) for split in ("train", "val", "test")) == sizes
    assert float(data.split("test").y.float().mean()) == pytest.approx(positive, abs=1e-3)
    x = data.split("test").x
    assert ((x != 0).sum(1) > 0).all() and float((x == 1).float().sum() / (x != 0).sum()) < 0.1


def test_the_digest_depends_on_the_texts_and_not_on_their_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    same = shutil.copy(REVIEWS, tmp_path / "elsewhere" / REVIEWS.name)
    other = tmp_path / REVIEWS.name
    other.write_text(REVIEWS.read_text() + "a further one,positive\n")
    digests = [text_file(Path(path)).measure().content for path in (REVIEWS, same, other)]
    assert digests[0] == digests[1] != digests[2]
    with pytest.raises(DataError, match="the data has changed since this run was configured"):
        text_file(other, content=digests[0]).load()


def test_different_text_files_give_different_cells(tmp_path: Path) -> None:
    from temper.config.cell import Cell

    other = tmp_path / REVIEWS.name
    other.write_text(REVIEWS.read_text() + "a further one,positive\n")
    cells = [
        Cell.of(composed("data=csv_text", "model=text_cnn", f"data.source.path={path}")).digest for path in (REVIEWS, other)
    ]
    assert cells[0] != cells[1]
