"""Rows of tables: scaled by the training split alone, decoded to what they were, and mistakes named with the way out."""

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
    """Income and age, a job, and whether it was a fraud: one in three."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "income": draw.normal(3000, 800, rows),
            "job": [("baker", "nurse", "pilot")[i % 3] for i in range(rows)],
            "age": draw.integers(20, 60, rows),
            "fraud": ["yes" if i % 3 == 1 else "no" for i in range(rows)],
        }
    )


def written(frame: pd.DataFrame, folder: Path, name: str = "people.csv") -> Path:
    frame.to_csv(folder / name, index=False)
    return folder / name


def source(folder: Path, **settings: object) -> TableFile:
    return TableFile(**{"root": str(folder), "path": "people.csv", **COLUMNS, **settings})  # type: ignore[arg-type]


def module(rows: TableFile, **settings: object) -> DataModule:
    return DataModule(source=rows, shape=rows.shape, classes=rows.classes, **settings)  # type: ignore[arg-type]


def test_numbers_come_first_then_a_feature_for_each_category(tmp_path: Path) -> None:
    frame = people()
    written(frame, tmp_path)
    rows = source(tmp_path)
    assert rows.shape == (5,) and rows.classes == 2
    x_train, y_train, x_test, y_test = rows.load()
    assert len(x_train) == 45 and len(x_test) == 15
    assert int(y_train.sum()) == 15 and int(y_test.sum()) == 5, "stratified"
    found = pd.DataFrame(x_train[:, :2], columns=["income", "age"]).merge(frame, on=["income", "age"])
    assert len(found) == 45
    jobs = x_train[:, 2:].argmax(1)
    assert [("baker", "nurse", "pilot")[job] for job in jobs] == found.job.tolist()
    assert (x_train[:, 2:].sum(1) == 1).all()


def test_the_training_split_alone_scales(tmp_path: Path) -> None:
    written(people(), tmp_path)
    data = module(source(tmp_path), val_fraction=0.2)
    train, val = (data.split(name).x for name in ("train", "val"))
    numbers = train[:, :2].double()
    torch.testing.assert_close(numbers.mean(0), torch.zeros(2).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(2).double(), atol=1e-6, rtol=0)
    both = torch.cat([train, val])[:, :2].mean(0)
    assert (both.abs() > 1e-3).any(), "the validation split had no part in it"
    domain = data.domain
    assert domain is not None and domain.whole is not None and domain.whole.tolist() == [False, True, False, False, False]
    assert domain.groups == ((2, 5),)
    ages = domain.decode(train)[:, 1]
    assert torch.equal(ages, ages.round()) and ages.min() >= 20 and ages.max() < 60
    for name in ("val", "test"):
        x = data.split(name).x
        assert (x >= domain.lower).all() and (x <= domain.upper).all(), "what is further out stands at the end of the range"


def test_what_cannot_change_is_masked_with_all_of_its_categories(tmp_path: Path) -> None:
    written(people(), tmp_path)
    batch = next(iter(module(source(tmp_path)).loader("train", batch_size=8)))
    assert batch.mask is not None and batch.mask.tolist() == [[1, 0, 0, 0, 0]]
    free = next(iter(module(source(tmp_path, immutable=[])).loader("train", batch_size=8)))
    assert free.mask is None and free.domain is not None


def test_rows_are_told_as_they_stand_in_the_file(tmp_path: Path) -> None:
    frame = people().assign(rate=[1e-9 * i if i % 2 else 0.25 for i in range(60)])
    written(frame, tmp_path)
    rows = source(tmp_path)
    x_train, y_train, _, _ = rows.load()
    encoder = rows.fit(x_train, y_train)
    assert encoder.columns == ["income", "age", "rate", "job"]
    x = encoder(x_train)
    told = pd.DataFrame(encoder.tell(x), columns=encoder.columns)
    known = {(round(income, 1), str(age), job) for income, age, job in frame[["income", "age", "job"]].itertuples(index=False)}
    assert {(float(income), age, job) for income, age, _, job in told.itertuples(index=False)} <= known and len(told) == 45
    assert set(told.rate) == {"0", "0.25"}, "what is smaller than the precision of a spread is no digit"
    z = x.clone()
    z[:, 0] += 0.25
    z[:, 3:] = z[:, 3:].roll(1, 1)
    torch.testing.assert_close(encoder.moved(x, z), torch.tensor([[0.25, 0.0, 0.0, 1.0]]).expand(45, 4))
    z[:, 3:] = 0
    assert [row[3] for row in encoder.tell(z)] == ["<unknown>"] * 45


def test_changes_of_large_numbers_are_told(tmp_path: Path) -> None:
    frame = people().assign(time=[1_700_000_000 + 300 * i for i in range(60)])
    written(frame, tmp_path)
    rows = source(tmp_path, integer=["age", "time"], categorical=[], ignore=["job"], immutable=[])
    x_train, y_train, _, _ = rows.load()
    encoder = rows.fit(x_train, y_train)
    times = encoder.columns.index("time")
    x = encoder(x_train)
    before, after = ([int(row[times]) for row in encoder.tell(points)] for points in (x, x + 0.1))
    assert before == x_train[:, times].astype(int).tolist()
    assert all(last - first > 300 for first, last in zip(before, after, strict=True)), "a tenth of a spread of some 5,000"


def test_a_category_that_training_lacks_has_no_feature(tmp_path: Path) -> None:
    written(people(), tmp_path)
    other = people(30)
    other.loc[4, "job"] = "sailor"
    written(other, tmp_path, "test.csv")
    data = module(source(tmp_path, test="test.csv"))
    rows = data.split("test").x[:, 2:].sum(1)
    assert rows.tolist() == [0.0 if i == 4 else 1.0 for i in range(30)]


def test_a_category_that_the_training_split_lacks_is_none_either(tmp_path: Path) -> None:
    written(people(), tmp_path)
    rows = source(tmp_path)
    x_train, y_train, _, _ = rows.load()
    without = x_train[:, 4] == 0  # no pilots
    encoder = rows.fit(x_train[without], y_train[torch.from_numpy(without)])
    assert encoder(np.array([[3000.0, 30, 0, 0, 1], [3000.0, 30, 0, 1, 0]]))[:, 2:].tolist() == [[0, 0, 0], [0, 1, 0]]


def test_what_is_held_out_is_the_same_for_all(tmp_path: Path) -> None:
    written(people(), tmp_path)
    one, other = source(tmp_path).load(), source(tmp_path).load()
    assert np.array_equal(one.x_test, other.x_test) and torch.equal(one.y_test, other.y_test)


def test_classes_without_a_positive_one_are_the_values_of_the_target(tmp_path: Path) -> None:
    written(people(), tmp_path)
    rows = source(tmp_path, target="job", positive=None, categorical=["fraud"], immutable=[])
    assert rows.classes == 3
    assert source(tmp_path, positive=None, negative="no").load().y_train.sum() == 15


def test_numbers_name_classes_too(tmp_path: Path) -> None:
    frame = people()
    frame["fraud"] = (frame.fraud == "yes").astype(float)
    written(frame, tmp_path)
    assert source(tmp_path, positive=1).load().y_train.sum() == 15


def test_compressed_files_are_found_and_a_digest_tells_them_apart(tmp_path: Path) -> None:
    path = written(people(), tmp_path)
    before = source(tmp_path)
    digest = before.measure().content
    with gzip.open(tmp_path / "people.csv.gz", "wb") as file:
        file.write(path.read_bytes())
    path.unlink()
    assert np.array_equal(source(tmp_path).load().x_train, before.load().x_train)
    written(people(57), tmp_path)
    assert source(tmp_path).measure().content != digest


def test_a_file_in_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(people(), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(source(tmp_path, root=str(tmp_path / "data")).load().x_train) == 45


def test_rows_that_changed_under_a_run_are_noticed(tmp_path: Path) -> None:
    written(people(), tmp_path)
    content = source(tmp_path).measure().content
    written(people(57), tmp_path)
    with pytest.raises(DataError, match=r"people\.csv holds other data by now than when this run was set up"):
        source(tmp_path, content=content).load()


def test_the_config_knows_sizes_and_content(tmp_path: Path) -> None:
    written(people(), tmp_path)
    setting = ["data=csv", "model=mlp", f"paths.data={tmp_path}", "data.source.path=people.csv", "data.source.target=fraud"]
    setting += ["data.source.categorical=[job]", "data.source.positive=yes"]
    config = composed(*setting)
    assert list(config.data.shape) == [5] and config.model.classes == 2
    before = Cell.of(config).digest
    written(people(59), tmp_path, "others.csv")
    assert Cell.of(composed(*setting, "data.source.path=others.csv")).digest != before
    with pytest.raises(InterpolationResolutionError, match=r"nowhere\.csv was not found"):
        _ = composed(*setting, "data.source.path=nowhere.csv").data.shape


def broken(frame: pd.DataFrame, row: int, column: str, value: str | float | None) -> pd.DataFrame:
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


MISTAKES = {
    "target": ({"target": "frod"}, people, "data.source.target: people.csv has no column frod; did you mean fraud?"),
    "column": ({"categorical": ["jobb"]}, people, "data.source.categorical: people.csv has no column jobb; did you mean job?"),
    "immutable": ({"immutable": ["height"]}, people, "data.source.immutable: people.csv has no column height; its columns are"),
    "no feature": ({"immutable": ["fraud"]}, people, "data.source.immutable: fraud is no feature, and no adversary sees it"),
    "positive": ({"positive": "maybe"}, people, "data.source.positive: fraud of people.csv is never maybe; it is no, yes"),
    "no number": ({}, lambda: broken(people(), 6, "income", "much"), "row 7: income is 'much', which is no finite number"),
    "infinite": ({}, lambda: broken(people(), 6, "income", "inf"), "row 7: income is 'inf', which is no finite number"),
    "a name": ({"categorical": [], "immutable": []}, people, "job is 'baker', which is no finite number; correct it, or name"),
    "no integer": ({}, lambda: broken(people(), 8, "age", 30.5), "row 9: age is '30.5', which is no whole number"),
    "missing": ({}, lambda: broken(people(), 4, "income", None), "row 5: income is missing"),
    "NaN": ({}, lambda: broken(people(), 4, "income", "nan"), "row 5: income is"),
    "missing category": ({}, lambda: broken(people(), 4, "job", None), "row 5: job is missing"),
    "missing label": ({}, lambda: broken(people(), 4, "fraud", None), "row 5: fraud is missing"),
    "no rows": ({}, lambda: people(0), "people.csv has no rows"),
    "one class": ({}, lambda: people().assign(fraud="no"), "fraud of people.csv is never yes; it is no"),
    "one value": ({"positive": None}, lambda: people().assign(fraud="no"), "people.csv: fraud is no in every row"),
    "one row of a class": (
        {"positive": None},
        lambda: broken(people(), 0, "fraud", "unknown"),
        "people.csv, fraud: class unknown has 1 row",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_with_the_way_out(mistake: str, tmp_path: Path) -> None:
    settings, frame, message = MISTAKES[mistake]
    written(frame(), tmp_path)
    with pytest.raises(DataError) as caught:
        source(tmp_path, **settings).load()  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_files_that_are_missing_empty_or_cut_short(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"people\.csv was not found in .*paths\.data=FOLDER.*data\.source\.path=FILE"):
        source(tmp_path).load()
    path = tmp_path / "people.csv"
    path.write_text("")
    with pytest.raises(DataError, match=r"people\.csv holds no rows"):
        source(tmp_path).load()
    whole = written(people(), tmp_path).read_text()
    path.write_text(whole[: whole.rindex(",")].rpartition(",")[0])  # ends within the last row
    with pytest.raises(DataError, match=r"row 60 \(the last one: was the file cut short\?\)"):
        source(tmp_path).load()
    path.unlink()
    (tmp_path / "people.csv.gz").write_bytes(gzip.compress(whole.encode())[:-200])
    with pytest.raises(DataError, match=r"people\.csv\.gz is damaged or was cut short"):
        source(tmp_path).load()


def test_a_mistake_of_the_test_file_is_one_of_the_test_file(tmp_path: Path) -> None:
    written(people(), tmp_path)
    written(people().drop(columns="job"), tmp_path, "test.csv")
    with pytest.raises(DataError, match=r"data\.source\.categorical: test\.csv has no column job"):
        source(tmp_path, test="test.csv").load()
    written(broken(people(), 4, "income", None), tmp_path, "test.csv")
    with pytest.raises(DataError, match=r"^test\.csv, row 5: income is missing"):
        source(tmp_path, test="test.csv").load()


def test_a_class_of_one_row_is_named_beside_a_test_file_too(tmp_path: Path) -> None:
    frame = people()
    frame["fraud"] = ["yes" if row == 7 else "no" for row in range(len(frame))]
    written(people(), tmp_path, "test.csv")
    written(frame, tmp_path)
    with pytest.raises(DataError, match=r"data\.val_fraction: class 1 has one example, and both sides need one: bring more"):
        module(source(tmp_path, test="test.csv"), batch_size=8).setup()


def test_what_openml_has_becomes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fetch(data_id: int, **_: object) -> SimpleNamespace:
        asked.append(data_id)
        return SimpleNamespace(frame=people())

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    here = tmp_path / "data"
    one, other = (source(here, openml={"people.csv": 7}) for _ in range(2))
    assert one.measure() == other.measure() and asked == [7], "once"
    assert np.array_equal(one.load().x_train, other.load().x_train)
    assert [path.name for path in here.iterdir()] == ["people.csv"]


def test_a_misspelt_file_is_no_other_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: pytest.fail("it was fetched"))
    with pytest.raises(DataError, match=r"poeple\.csv was not found in .*data\.source\.path=FILE"):
        source(tmp_path, path="poeple.csv", openml={"people.csv": 7}).load()


def test_a_file_in_a_folder_of_its_own_is_fetched_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **_: SimpleNamespace(frame=people()))
    source(tmp_path, path="tables/people.csv", openml={"tables/people.csv": 7}).load()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["tables/people.csv"]


def test_no_network_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(**_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(DataError, match=r"openml\.org gave no data set 7 \(Name or service not known\).*paths\.data=FOLDER"):
        source(tmp_path, openml={"people.csv": 7}).load()
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"people\.csv was not found"):
        source(tmp_path, openml={"people.csv": 7}, download=False).load()


def test_a_column_is_one_thing() -> None:
    with pytest.raises(ValueError, match="job: a column is one of"):
        TableFile(root=".", path="people.csv", target="fraud", numeric=["job"], categorical=["job"])
    with pytest.raises(ValueError, match="positive or negative"):
        TableFile(root=".", path="people.csv", target="fraud", positive="yes", negative="no")


def test_breast_cancer_comes_with_its_library() -> None:
    rows = BreastCancer()
    _, y_train, x_test, y_test = rows.load()
    assert rows.shape == (30,) and len(x_test) == 143
    assert int(y_train.sum() + y_test.sum()) == 212, "malignant ones"


def test_weights_of_classes_decide_how_often_they_are_drawn(tmp_path: Path) -> None:
    written(people(300), tmp_path)

    def drawn(**settings: object) -> torch.Tensor:
        return torch.cat([batch.y for batch in module(source(tmp_path), batch_size=16, **settings).train_dataloader()])

    balanced = drawn(class_weights="balanced")
    assert len(balanced) == len(drawn()) == 180 and int(drawn().sum()) == 60
    assert 0.4 < balanced.float().mean() < 0.6
    assert drawn(class_weights=[0.001, 1]).float().mean() > 0.95
    assert torch.equal(balanced, drawn(class_weights="balanced")) and not torch.equal(
        balanced, drawn(class_weights="balanced", seed=1)
    )
    with pytest.raises(ValueError, match="class_weights: there are 3 of them for 2 classes"):
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
    assert (test.x[:, 41:107].sum(1) == 0).any(), "services that training lacks"


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


def test_a_run_on_a_file(temper: Temper, tmp_path: Path) -> None:
    """Drawn by weights of classes, evaluated with what tells of the rare class, and rows that stay valid."""
    written(people(240), tmp_path)
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
        told = {name: arrays[f"rows/{name}"] for name in ("clean", "pgd")}
        assert arrays["columns"].tolist() == ["income", "age", "job"] and arrays["moved/pgd"].shape == told["pgd"].shape
    clean = rows.pop("examples/clean")
    assert set(rows) == {f"examples/{name}" for name in ("fgsm", "pgd", "apgd_ce", "apgd_dlr", "square")}
    assert (clean[:, 0] != rows["examples/pgd"][:, 0]).any()
    for moved in rows.values():
        assert np.array_equal(clean[:, 1], moved[:, 1])
        assert set(np.unique(moved[:, 2:])) == {0.0, 1.0} and (moved[:, 2:].sum(1) == 1).all()
    assert (told["clean"][:, 0] != told["pgd"][:, 0]).any() and (told["clean"][:, 1] == told["pgd"][:, 1]).all()
    assert set(told["pgd"][:, 2]) <= {"baker", "nurse", "pilot"}


def test_mistakes_of_a_file_are_named_without_a_traceback(temper: Temper, tmp_path: Path) -> None:
    settings = (*SETTING, f"paths.data={tmp_path}")
    for frame, message in (
        (None, "people.csv was not found in"),
        (broken(people(), 4, "income", None), "row 5: income is missing"),
        (people().drop(columns="job"), "data.source.categorical: people.csv has no column job"),
        (people().drop(columns="fraud"), "data.source.target: people.csv has no column fraud"),
    ):
        if frame is not None:
            written(frame, tmp_path)
        resolvers.measured.cache_clear()
        status, output = temper("train", *settings)
        assert status != 0 and message in output and "Traceback" not in output, output
        assert len(output.strip().splitlines()) <= 5, output
