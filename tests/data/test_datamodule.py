"""Tests of the datamodule, the loader and batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from temper.data import Arrays, Batch, DataError, DataModule, Digits, Loader, TorchVision
from tests.conftest import composed, real_data


class FixedLabels:
    """A source with given labels and random inputs."""

    def __init__(self, y_train: list[int], y_test: list[int]) -> None:
        self.y_train, self.y_test = torch.tensor(y_train), torch.tensor(y_test)

    def load(self) -> Arrays:
        return Arrays(torch.rand(len(self.y_train), 2), self.y_train, torch.rand(len(self.y_test), 2), self.y_test)


def test_splits_are_disjoint_stratified_and_complete(digits: DataModule) -> None:
    splits = {name: digits.split(name) for name in ("train", "val", "test")}
    assert sum(len(split.y) for split in splits.values()) == 1797
    rows = {
        name: {row.numpy().tobytes() + bytes([int(y)]) for row, y in zip(*split, strict=True)} for name, split in splits.items()
    }
    assert not rows["train"] & rows["val"] and not rows["train"] & rows["test"] and not rows["val"] & rows["test"]
    for split in splits.values():
        fractions = np.bincount(split.y.numpy(), minlength=10) / len(split.y)
        assert abs(fractions - 0.1).max() < 0.02
        assert split.x.min() >= 0 and split.x.max() <= 1


def test_splits_do_not_depend_on_the_seed_of_the_run() -> None:
    one, other = (DataModule(source=Digits(), shape=(1, 8, 8), classes=10, seed=seed) for seed in (0, 1))
    assert torch.equal(one.split("val").y, other.split("val").y)


def test_every_epoch_has_each_example_once_in_its_own_order() -> None:
    x, y = torch.arange(10.0).reshape(10, 1), torch.arange(10)
    loader = Loader(x, y, batch_size=4, seed=0)
    epochs = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert [len(batch) for batch in batches] == [4, 4, 2] and len(loader) == 3
        epochs.append(torch.cat([batch.index for batch in batches]))
        assert torch.equal(torch.cat([batch.x for batch in batches]).flatten(), epochs[-1].float())
    assert all(torch.equal(epoch.sort().values, y) for epoch in epochs)
    assert torch.equal(epochs[0], epochs[2]) and not torch.equal(epochs[0], epochs[1])


def test_uint8_pixels_are_scaled_to_the_unit_interval() -> None:
    loader = Loader(torch.tensor([[0], [51], [255]], dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), batch_size=3)
    torch.testing.assert_close(next(iter(loader)).x.flatten(), torch.tensor([0, 0.2, 1]))


def test_all_tensors_of_a_batch_move_to_the_device() -> None:
    batch = Batch.of(torch.rand(2, 3), torch.tensor([0, 1])).to("meta")
    assert {value.device.type for value in (batch.x, batch.y, batch.target, batch.index)} == {"meta"}


@pytest.mark.parametrize(
    ("y_train", "y_test", "message"),
    [
        ([0] * 20 + [1] * 20, [0, 0], "data.classes=2: the test split has no example of class 1"),
        ([0] * 20 + [1], [0, 1], "data.val_fraction: class 1 has one example"),
        ([0] * 20, [0, 1], "data.classes=2: the train split has no example of class 1"),
        ([0] * 20 + [1] * 20 + [2] * 20, [0, 1, 2], "train split has label 2. .*data.classes to at least 3"),
    ],
)
def test_a_split_that_lacks_a_class_raises(y_train: list[int], y_test: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataModule(source=FixedLabels(y_train, y_test), shape=(2,), classes=2).setup()


def test_inputs_of_another_shape_raise() -> None:
    with pytest.raises(DataError, match=r"data\.shape=\[1, 9, 9\]: the inputs have shape \[1, 8, 8\]"):
        DataModule(source=Digits(), shape=(1, 9, 9), classes=10).setup()


def test_train_and_test_size_are_exact_and_stratified() -> None:
    data = DataModule(source=Digits(), shape=(1, 8, 8), classes=10, train_size=200, test_size=60)
    assert len(data.split("train").y) == 200 and len(data.split("test").y) == 60
    assert data.split("test").y.bincount().min() >= 5


class CenteringEncoder:
    """Encoder that subtracts the mean of its training inputs; an adversary may change positive values."""

    def __init__(self, x: np.ndarray) -> None:
        self.mean = float(x.mean())

    def __call__(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x - self.mean).float()[:, None]

    def mask(self, x: torch.Tensor) -> torch.Tensor:
        return x > 0


class NumpySource:
    """A source whose inputs are numpy arrays that need an encoder."""

    def load(self) -> Arrays:
        y = torch.arange(40) % 2
        return Arrays(np.arange(40.0), y, np.arange(40.0) + 100, y)

    def fit(self, x: np.ndarray, y: torch.Tensor) -> CenteringEncoder:
        assert len(x) == len(y)
        return CenteringEncoder(x)


def test_an_encoder_is_fitted_on_the_training_split_alone() -> None:
    data = DataModule(source=NumpySource(), shape=[1], classes=2, val_fraction=0.25, train_size=20)
    train, val, test = (data.split(name) for name in ("train", "val", "test"))
    assert len(train.x) == 20 and float(train.x.mean()) == pytest.approx(0, abs=1e-5)
    assert abs(float(torch.cat([train.x, val.x]).mean())) > 1e-3, "the validation split is not used"
    assert float(test.x.min()) > 50
    batch = next(iter(data.loader("train", batch_size=20)))
    assert batch.mask is not None and torch.equal(batch.mask, batch.x > 0)


def test_tokens_stay_integers() -> None:
    loader = Loader(torch.tensor([[0, 300], [255, 7]]), torch.zeros(2, dtype=torch.int64), batch_size=2)
    assert next(iter(loader)).x.tolist() == [[0, 300], [255, 7]]


def test_missing_files_raise_with_the_folder_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"MNIST was not found in {tmp_path}.*paths.data=FOLDER"):
        TorchVision(name="MNIST", root=str(tmp_path), download=False).load()


def test_an_unknown_torchvision_data_set_raises_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"should be .*'MNIST'.*MNISTT"):
        TorchVision(name="MNISTT", root=str(tmp_path))  # type: ignore[arg-type]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("mnist", (1, 28, 28), (54000, 6000, 10000)),
        ("fashion_mnist", (1, 28, 28), (54000, 6000, 10000)),
        ("cifar10", (3, 32, 32), (45000, 5000, 10000)),
    ],
)
def test_real_images_match_the_configured_statistics(name: str, shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    from temper.data.loading import build_data

    config = composed(f"data={name}", f"paths.data={real_data()}", "data.source.download=false")
    data = build_data(config)
    assert tuple(len(data.split(split).y) for split in ("train", "val", "test")) == sizes
    batch = next(iter(data.loader("train", batch_size=10000)))
    assert batch.x.shape[1:] == shape and batch.x.min() >= 0 and batch.x.max() <= 1
    torch.testing.assert_close(batch.x.mean((0, 2, 3)), torch.tensor(list(config.data.mean)), atol=0.01, rtol=0)
    torch.testing.assert_close(batch.x.std((0, 2, 3)), torch.tensor(list(config.data.std)), atol=0.01, rtol=0)
