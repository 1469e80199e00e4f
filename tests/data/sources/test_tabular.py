"""Tests of tables: standardized by the training split alone, decoded exactly, and errors with the way out."""

import gzip
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
import torch
from omegaconf.errors import InterpolationResolutionError

from temper.config import resolvers
from temper.config.cell import Cell
from temper.data import BreastCancer, DataError, DataModule, TableFile
from temper.runs.record import RunRecord
from tests.conftest import composed, real_tables

COLUMNS = {"target": "fraud", "positive": "yes", "integer": ["age"], "categorical": ["job"], "immutable": ["age", "job"]}


def people(rows: int = 60) -> pd.DataFrame:
    """Return a table of income, job, age and fraud; one row in three is a fraud."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "income": draw.normal(3000, 800, rows),
            "job": [("baker", "nurse", "pilot")[i % 3] for i in range(rows)],
            "age": draw.integers(20, 60, rows),
            "fraud": ["yes" if i % 3 == 1 else "no" for i in range(rows)],
        }
    )


def write(frame: pd.DataFrame, folder: Path, name: str = "people.csv") -> Path:
    frame.to_csv(folder / name, index=False)
    return folder / name


def source(folder: Path, **settings: object) -> TableFile:
    return TableFile(**{"root": str(folder), "path": "people.csv", **COLUMNS, **settings})  # type: ignore[arg-type]


def module(rows: TableFile, **settings: object) -> DataModule:
    return DataModule(source=rows, shape=rows.shape, classes=rows.classes, **settings)  # type: ignore[arg-type]


def test_features_are_numbers_followed_by_one_hot_categories(tmp_path: Path) -> None:
    frame = people()
    write(frame, tmp_path)
    rows = source(tmp_path)
    assert rows.shape == (5,) and rows.classes == 2
    x_train, y_train, x_test, y_test = rows.load()
    assert len(x_train) == 45 and len(x_test) == 15
    assert int(y_train.sum()) == 15 and int(y_test.sum()) == 5, "stratified"
    matched = pd.DataFrame(x_train[:, :2], columns=["income", "age"]).merge(frame, on=["income", "age"])
    assert len(matched) == 45
    jobs = x_train[:, 2:].argmax(1)
    assert [("baker", "nurse", "pilot")[job] for job in jobs] == matched.job.tolist()
    assert (x_train[:, 2:].sum(1) == 1).all()


def test_the_training_split_alone_determines_the_scale(tmp_path: Path) -> None:
    write(people(), tmp_path)
    data = module(source(tmp_path), val_fraction=0.2)
    train, val = (data.split(name).x for name in ("train", "val"))
    numbers = train[:, :2].double()
    torch.testing.assert_close(numbers.mean(0), torch.zeros(2).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(2).double(), atol=1e-6, rtol=0)
    both = torch.cat([train, val])[:, :2].mean(0)
    assert (both.abs() > 1e-3).any(), "the validation split is not used"
    domain = data.domain
    assert domain is not None and domain.integer is not None and domain.integer.tolist() == [False, True, False, False, False]
    assert domain.groups == ((2, 5),)
    ages = domain.decode(train)[:, 1]
    assert torch.equal(ages, ages.round()) and ages.min() >= 20 and ages.max() < 60
    for name in ("val", "test"):
        x = data.split(name).x
        assert (x >= domain.lower).all() and (x <= domain.upper).all(), "values are clamped to the range"


def test_immutable_columns_are_masked_with_all_their_categories(tmp_path: Path) -> None:
    write(people(), tmp_path)
    batch = next(iter(module(source(tmp_path)).loader("train", batch_size=8)))
    assert batch.mask is not None and batch.mask.tolist() == [[1, 0, 0, 0, 0]]
    free = next(iter(module(source(tmp_path, immutable=[])).loader("train", batch_size=8)))
    assert free.mask is None and free.domain is not None


def test_decoded_rows_equal_those_of_the_file(tmp_path: Path) -> None:
    frame = people().assign(rate=[1e-9 * i if i % 2 else 0.25 for i in range(60)])
    write(frame, tmp_path)
    rows = source(tmp_path)
    x_train, y_train, _, _ = rows.load()
    encoder = rows.fit(x_train, y_train)
    assert encoder.columns == ["income", "age", "rate", "job"]
    x = encoder(x_train)
    decoded = pd.DataFrame(encoder.decode(x), columns=encoder.columns)
    expected = {
        (round(income, 1), str(age), job) for income, age, job in frame[["income", "age", "job"]].itertuples(index=False)
    }
    assert {(float(income), age, job) for income, age, _, job in decoded.itertuples(index=False)} <= expected
    assert len(decoded) == 45
    assert set(decoded.rate) == {"0", "0.25"}, "values far below the standard deviation are rounded to 0"
    z = x.clone()
    z[:, 0] += 0.25
    z[:, 3:] = z[:, 3:].roll(1, 1)
    torch.testing.assert_close(encoder.column_changes(x, z), torch.tensor([[0.25, 0.0, 0.0, 1.0]]).expand(45, 4))
    z[:, 3:] = 0
    assert [row[3] for row in encoder.decode(z)] == ["<unknown>"] * 45


def test_small_changes_of_large_numbers_are_decoded(tmp_path: Path) -> None:
    frame = people().assign(time=[1_700_000_000 + 300 * i for i in range(60)])
    write(frame, tmp_path)
    rows = source(tmp_path, integer=["age", "time"], categorical=[], ignore=["job"], immutable=[])
    x_train, y_train, _, _ = rows.load()
    encoder = rows.fit(x_train, y_train)
    times = encoder.columns.index("time")
    x = encoder(x_train)
    before, after = ([int(row[times]) for row in encoder.decode(points)] for points in (x, x + 0.1))
    assert before == x_train[:, times].astype(int).tolist()
    assert all(last - first > 300 for first, last in zip(before, after, strict=True)), (
        "a tenth of a standard deviation of about 5,000"
    )


def test_a_category_without_training_rows_has_no_feature(tmp_path: Path) -> None:
    write(people(), tmp_path)
    other = people(30)
    other.loc[4, "job"] = "sailor"
    write(other, tmp_path, "test.csv")
    data = module(source(tmp_path, test="test.csv"))
    rows = data.split("test").x[:, 2:].sum(1)
    assert rows.tolist() == [0.0 if i == 4 else 1.0 for i in range(30)]


def test_a_category_without_rows_in_the_training_split_is_encoded_as_0(tmp_path: Path) -> None:
    write(people(), tmp_path)
    rows = source(tmp_path)
    x_train, y_train, _, _ = rows.load()
    without = x_train[:, 4] == 0  # no pilots
    encoder = rows.fit(x_train[without], y_train[torch.from_numpy(without)])
    assert encoder(np.array([[3000.0, 30, 0, 0, 1], [3000.0, 30, 0, 1, 0]]))[:, 2:].tolist() == [[0, 0, 0], [0, 1, 0]]


def test_the_test_split_is_reproducible(tmp_path: Path) -> None:
    write(people(), tmp_path)
    one, other = source(tmp_path).load(), source(tmp_path).load()
    assert np.array_equal(one.x_test, other.x_test) and torch.equal(one.y_test, other.y_test)


def test_classes_without_positive_are_the_values_of_the_target(tmp_path: Path) -> None:
    write(people(), tmp_path)
    rows = source(tmp_path, target="job", positive=None, categorical=["fraud"], immutable=[])
    assert rows.classes == 3
    assert source(tmp_path, positive=None, negative="no").load().y_train.sum() == 15


def test_positive_may_be_a_number(tmp_path: Path) -> None:
    frame = people()
    frame["fraud"] = (frame.fraud == "yes").astype(float)
    write(frame, tmp_path)
    assert source(tmp_path, positive=1).load().y_train.sum() == 15


def test_compressed_files_are_found_and_other_rows_have_another_digest(tmp_path: Path) -> None:
    path = write(people(), tmp_path)
    before = source(tmp_path)
    digest = before.measure().content
    with gzip.open(tmp_path / "people.csv.gz", "wb") as file:
        file.write(path.read_bytes())
    path.unlink()
    assert np.array_equal(source(tmp_path).load().x_train, before.load().x_train)
    write(people(57), tmp_path)
    assert source(tmp_path).measure().content != digest


def test_a_file_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(people(), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(source(tmp_path, root=str(tmp_path / "data")).load().x_train) == 45


def test_rows_that_changed_since_the_configuration_raise(tmp_path: Path) -> None:
    write(people(), tmp_path)
    content = source(tmp_path).measure().content
    write(people(57), tmp_path)
    with pytest.raises(DataError, match=r"people\.csv: the data has changed since this run was configured"):
        source(tmp_path, content=content).load()


def test_a_config_takes_shape_classes_and_digest_from_the_file(tmp_path: Path) -> None:
    write(people(), tmp_path)
    setting = ["data=csv", "model=mlp", f"paths.data={tmp_path}", "data.source.path=people.csv", "data.source.target=fraud"]
    setting += ["data.source.categorical=[job]", "data.source.positive=yes"]
    config = composed(*setting)
    assert list(config.data.shape) == [5] and config.model.classes == 2
    before = Cell.of(config).digest
    write(people(59), tmp_path, "others.csv")
    assert Cell.of(composed(*setting, "data.source.path=others.csv")).digest != before
    with pytest.raises(InterpolationResolutionError, match=r"nowhere\.csv was not found"):
        _ = composed(*setting, "data.source.path=nowhere.csv").data.shape


def with_value(frame: pd.DataFrame, row: int, column: str, value: str | float | None) -> pd.DataFrame:
    """Return the table with one value replaced."""
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


MISTAKES = {
    "target": ({"target": "frod"}, people, "data.source.target=frod: people.csv has no such column. Did you mean fraud?"),
    "column": (
        {"categorical": ["jobb"]},
        people,
        "data.source.categorical=jobb: people.csv has no such column. Did you mean job?",
    ),
    "immutable": (
        {"immutable": ["height"]},
        people,
        "data.source.immutable=height: people.csv has no such column. Its columns are",
    ),
    "no feature": ({"immutable": ["fraud"]}, people, "data.source.immutable=fraud: the column is not a feature"),
    "positive": (
        {"positive": "maybe"},
        people,
        "data.source.positive=maybe: no row of people.csv has this value in column fraud. Its values are no, yes",
    ),
    "not a number": ({}, lambda: with_value(people(), 6, "income", "much"), "row 7: income is 'much', not a finite number"),
    "infinite": ({}, lambda: with_value(people(), 6, "income", "inf"), "row 7: income is 'inf', not a finite number"),
    "a category": ({"categorical": [], "immutable": []}, people, "job is 'baker', not a finite number. Correct it, or name"),
    "not an integer": ({}, lambda: with_value(people(), 8, "age", 30.5), "row 9: age is '30.5', not an integer"),
    "missing": ({}, lambda: with_value(people(), 4, "income", None), "row 5: income is missing"),
    "NaN": ({}, lambda: with_value(people(), 4, "income", "nan"), "row 5: income is"),
    "missing category": ({}, lambda: with_value(people(), 4, "job", None), "row 5: job is missing"),
    "missing label": ({}, lambda: with_value(people(), 4, "fraud", None), "row 5: fraud is missing"),
    "no rows": ({}, lambda: people(0), "people.csv has no rows"),
    "one class": (
        {},
        lambda: people().assign(fraud="no"),
        "no row of people.csv has this value in column fraud. Its values are no.",
    ),
    "one value": ({"positive": None}, lambda: people().assign(fraud="no"), "people.csv: column fraud is no in every row"),
    "one row of a class": (
        {"positive": None},
        lambda: with_value(people(), 0, "fraud", "unknown"),
        "people.csv, fraud: class unknown has 1 row",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_errors_name_the_problem_and_the_way_out(mistake: str, tmp_path: Path) -> None:
    settings, frame, message = MISTAKES[mistake]
    write(frame(), tmp_path)
    with pytest.raises(DataError) as caught:
        source(tmp_path, **settings).load()  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_missing_empty_and_truncated_files_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"people\.csv was not found in .*paths\.data=FOLDER.*data\.source\.path=FILE"):
        source(tmp_path).load()
    path = tmp_path / "people.csv"
    path.write_text("")
    with pytest.raises(DataError, match=r"people\.csv has no rows"):
        source(tmp_path).load()
    content = write(people(), tmp_path).read_text()
    path.write_text(content[: content.rindex(",")].rpartition(",")[0])  # ends within the last row
    with pytest.raises(DataError, match=r"row 60 \(the last one; is the file complete\?\)"):
        source(tmp_path).load()
    path.unlink()
    (tmp_path / "people.csv.gz").write_bytes(gzip.compress(content.encode())[:-200])
    with pytest.raises(DataError, match=r"people\.csv\.gz is damaged or incomplete"):
        source(tmp_path).load()


def test_errors_in_the_test_file_name_the_test_file(tmp_path: Path) -> None:
    write(people(), tmp_path)
    write(people().drop(columns="job"), tmp_path, "test.csv")
    with pytest.raises(DataError, match=r"data\.source\.categorical=job: test\.csv has no such column"):
        source(tmp_path, test="test.csv").load()
    write(with_value(people(), 4, "income", None), tmp_path, "test.csv")
    with pytest.raises(DataError, match=r"^test\.csv, row 5: income is missing"):
        source(tmp_path, test="test.csv").load()


def test_a_class_of_one_row_raises_with_a_test_file_too(tmp_path: Path) -> None:
    frame = people()
    frame["fraud"] = ["yes" if row == 7 else "no" for row in range(len(frame))]
    write(people(), tmp_path, "test.csv")
    write(frame, tmp_path)
    with pytest.raises(
        DataError, match=r"data\.val_fraction: class 1 has one example, and both sides of the split need one. Add"
    ):
        module(source(tmp_path, test="test.csv"), batch_size=8).setup()


def test_a_table_of_openml_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[int] = []

    def fetch(data_id: int, **_: object) -> SimpleNamespace:
        requests.append(data_id)
        return SimpleNamespace(frame=people())

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    root = tmp_path / "data"
    one, other = (source(root, openml={"people.csv": 7}) for _ in range(2))
    assert one.measure() == other.measure() and requests == [7], "one download"
    assert np.array_equal(one.load().x_train, other.load().x_train)
    assert [path.name for path in root.iterdir()] == ["people.csv"]


def test_a_misspelled_file_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: pytest.fail("downloaded"))
    with pytest.raises(DataError, match=r"poeple\.csv was not found in .*data\.source\.path=FILE"):
        source(tmp_path, path="poeple.csv", openml={"people.csv": 7}).load()


def test_a_file_is_downloaded_into_its_subfolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: SimpleNamespace(frame=people()))
    source(tmp_path, path="tables/people.csv", openml={"tables/people.csv": 7}).load()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["tables/people.csv"]


def test_a_download_without_a_network_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(**_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(
        DataError, match=r"openml\.org did not provide data set 7 \(Name or service not known\).*paths\.data=FOLDER"
    ):
        source(tmp_path, openml={"people.csv": 7}).load()
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"people\.csv was not found"):
        source(tmp_path, openml={"people.csv": 7}, download=False).load()


def test_a_column_that_is_listed_twice_raises() -> None:
    with pytest.raises(ValueError, match="column job is listed more than once in target, numeric"):
        TableFile(root=".", path="people.csv", target="fraud", numeric=["job"], categorical=["job"])
    with pytest.raises(ValueError, match="positive: negative is set as well"):
        TableFile(root=".", path="people.csv", target="fraud", positive="yes", negative="no")


def test_breast_cancer_of_scikit_learn() -> None:
    rows = BreastCancer()
    _, y_train, x_test, y_test = rows.load()
    assert rows.shape == (30,) and len(x_test) == 143
    assert int(y_train.sum() + y_test.sum()) == 212, "malignant"


def test_class_weights_determine_the_sampling_frequency(tmp_path: Path) -> None:
    write(people(300), tmp_path)

    def drawn(**settings: object) -> torch.Tensor:
        return torch.cat([batch.y for batch in module(source(tmp_path), batch_size=16, **settings).train_dataloader()])

    balanced = drawn(class_weights="balanced")
    assert len(balanced) == len(drawn()) == 180 and int(drawn().sum()) == 60
    assert 0.4 < balanced.float().mean() < 0.6
    assert drawn(class_weights=[0.001, 1]).float().mean() > 0.95
    assert torch.equal(balanced, drawn(class_weights="balanced")) and not torch.equal(
        balanced, drawn(class_weights="balanced", seed=1)
    )
    with pytest.raises(ValueError, match="class_weights: got 3 weights for 2 classes"):
        drawn(class_weights=[1, 2, 3])


@pytest.mark.real_data
def test_network_traffic() -> None:
    config = composed(
        "data=nsl_kdd", "model=resnet_tabular", f"paths.data={real_tables()}", "data.source.path=KDDTrain+_20Percent.txt"
    )
    assert list(config.data.shape) == [38 + 3 + 66 + 11] and config.model.classes == 2
    from temper.data.loading import build_data

    data = build_data(config)
    test = data.split("test")
    assert len(test.y) == 22544 and int(test.y.sum()) == 12833
    assert (test.x[:, 41:107].sum(1) == 0).any(), "services without training rows"


@pytest.mark.real_data
def test_card_payments() -> None:
    from temper.data.loading import build_data

    data = build_data(composed("data=creditcard", f"paths.data={real_tables()}", "data.source.path=creditcard_sample.csv"))
    labels = torch.cat([data.split(name).y for name in ("train", "val", "test")])
    assert len(labels) == 1722 and int(labels.sum()) == 492
    assert float(torch.cat([batch.y for batch in data.train_dataloader()]).float().mean()) == pytest.approx(0.5, abs=0.06)


Temper = Callable[..., tuple[int, str]]
SETTING = (
    "data=csv",
    "model=mlp",
    "data.source.path=people.csv",
    "data.source.target=fraud",
    "data.source.positive=yes",
    "data.source.categorical=[job]",
)


def test_a_training_run_on_a_file(temper: Temper, tmp_path: Path) -> None:
    """Class weights, detection metrics and attacks whose rows stay valid."""
    write(people(240), tmp_path)
    status, output = temper(
        "train",
        *SETTING,
        f"paths.data={tmp_path}",
        "data.source.integer=[age]",
        "data.source.immutable=[age]",
        "data.class_weights=balanced",
        "data.threats.linf.eps=1",
        "attack=pgd",
        "model.hidden=[16]",
        "trainer.max_epochs=2",
        "evaluation=standard",
    )
    assert status == 0, output
    record = RunRecord.read(next(tmp_path.glob("outputs/*/*/seed-0")))
    (evaluation,) = record.evaluations.values()
    metrics = evaluation["checkpoints"]["last"]["metrics"]
    assert 0 <= metrics["detection/worst_case_recall"] <= metrics["detection/recall"] <= 1
    with np.load(next(tmp_path.glob("outputs/*/*/seed-0/evaluations/*/last.npz"))) as arrays:
        rows = {name: arrays[name] for name in arrays.files if name.startswith("examples/")}
        decoded = {name: arrays[f"rows/{name}"] for name in ("clean", "pgd")}
        assert arrays["columns"].tolist() == ["income", "age", "job"] and arrays["moved/pgd"].shape == decoded["pgd"].shape
    clean = rows.pop("examples/clean")
    assert set(rows) == {f"examples/{name}" for name in ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "square")}
    assert (clean[:, 0] != rows["examples/pgd"][:, 0]).any()
    for attacked in rows.values():
        assert np.array_equal(clean[:, 1], attacked[:, 1])
        assert set(np.unique(attacked[:, 2:])) == {0.0, 1.0} and (attacked[:, 2:].sum(1) == 1).all()
    assert (decoded["clean"][:, 0] != decoded["pgd"][:, 0]).any() and (decoded["clean"][:, 1] == decoded["pgd"][:, 1]).all()
    assert set(decoded["pgd"][:, 2]) <= {"baker", "nurse", "pilot"}


def test_errors_are_shown_without_a_traceback(temper: Temper, tmp_path: Path) -> None:
    settings = (*SETTING, f"paths.data={tmp_path}")
    for frame, message in (
        (None, "people.csv was not found in"),
        (with_value(people(), 4, "income", None), "row 5: income is missing"),
        (people().drop(columns="job"), "data.source.categorical=job: people.csv has no such column"),
        (people().drop(columns="fraud"), "data.source.target=fraud: people.csv has no such column"),
    ):
        if frame is not None:
            write(frame, tmp_path)
        resolvers.measured.cache_clear()
        status, output = temper("train", *settings)
        assert status != 0 and message in output and "Traceback" not in output, output
        assert len(output.strip().splitlines()) <= 5, output
