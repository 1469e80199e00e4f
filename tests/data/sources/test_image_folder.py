"""Tests of image folders and Tiny ImageNet: pixels, classes, digests and errors."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from temper.config.cell import Cell
from temper.config.resolvers import measured
from temper.data import DataError, ImageFolder, TinyImageNet
from temper.data.loading import load_data
from temper.data.sources.image_decoding import decode_images
from temper.training.modules import build_module
from tests.conftest import composed

Temper = Callable[..., tuple[int, str]]
CLASSES = ("ant", "bee", "cat")


def random_image(label: int, number: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """Return pixels that are unique to this image."""
    return np.random.default_rng([label, number]).integers(0, 256, (*size, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image, and its folder if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_classes(root: Path, count: int, first: int = 0) -> Path:
    """Write a folder of `count` images for each class and return the root."""
    for label, name in enumerate(CLASSES):
        for number in range(first, first + count):
            save(root / name / f"{number:02}.png", random_image(label, number))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_classes(tmp_path / "images" / "train", 10)
    write_classes(tmp_path / "images" / "test", 4, first=10)
    return tmp_path / "images"


def test_pixels_and_classes_equal_those_of_the_files(folder: Path) -> None:
    x_train, y_train, x_test, y_test = ImageFolder(root=str(folder)).load()
    assert x_train.dtype == torch.uint8 and x_train.shape == (30, 3, 8, 8) and x_test.shape == (12, 3, 8, 8)
    assert y_train.tolist() == [0] * 10 + [1] * 10 + [2] * 10 and y_test.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for x, y, first in ((x_train, y_train, 0), (x_test, y_test, 10)):
        for row, image in enumerate(x):
            number = first + int((y[:row] == y[row]).sum())
            assert np.array_equal(image.permute(1, 2, 0).numpy(), random_image(int(y[row]), number))


def test_other_files_are_ignored_and_classes_may_have_subfolders(folder: Path) -> None:
    before = ImageFolder(root=str(folder)).load()
    (folder / "train" / "ant" / "notes.txt").write_text("not an image")
    (folder / "train" / "ant" / "._00.png").write_text("a companion file of macOS")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "bee" / "images").mkdir()
    for path in (folder / "train" / "bee").glob("*.png"):
        path.rename(path.parent / "images" / path.name)
    after = ImageFolder(root=str(folder)).load()
    assert all(map(torch.equal, before, after))


def test_validation_images_are_the_test_split_without_test_images(folder: Path) -> None:
    with_test = ImageFolder(root=str(folder)).load()
    (folder / "test").rename(folder / "val")
    assert all(map(torch.equal, with_test, ImageFolder(root=str(folder)).load()))
    (folder / "val").rename(folder / "held")
    assert all(map(torch.equal, with_test, ImageFolder(root=str(folder), test="held").load()))


@pytest.mark.parametrize("below", ["", "train"])
def test_a_fifth_is_held_out_without_a_test_folder(tmp_path: Path, below: str) -> None:
    write_classes(tmp_path / below, 10)
    x_train, y_train, x_test, y_test = ImageFolder(root=str(tmp_path)).load()
    assert y_train.bincount().tolist() == [8, 8, 8] and y_test.bincount().tolist() == [2, 2, 2]
    assert len(torch.cat([x_train, x_test]).unique(dim=0)) == 30
    again = ImageFolder(root=str(tmp_path)).load()
    assert torch.equal(x_test, again.x_test)


def test_images_are_resized_and_cropped_at_the_center(tmp_path: Path) -> None:
    # The left and right thirds are black; of 8x24 pixels, the middle 8x8 remain.
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = random_image(0, 0)
    save(tmp_path / "wide.png", pixels)
    assert np.array_equal(
        decode_images([tmp_path / "wide.png"], (3, 8, 8), resize=True)[0].permute(1, 2, 0).numpy(), random_image(0, 0)
    )
    save(tmp_path / "even.png", np.full((30, 20, 3), 77, np.uint8))
    assert (decode_images([tmp_path / "even.png"], (3, 8, 12), resize=True) == 77).all()


def test_gray_and_color_images_are_converted(tmp_path: Path) -> None:
    save(tmp_path / "gray.png", np.full((8, 8), 9, np.uint8))
    save(tmp_path / "color.png", random_image(0, 0))
    paths = [tmp_path / "gray.png", tmp_path / "color.png"]
    color, gray = decode_images(paths, (3, 8, 8), resize=False), decode_images(paths, (1, 8, 8), resize=False)
    assert (color[0] == 9).all() and (gray[0] == 9).all()
    luma = torch.tensor([299.0, 587.0, 114.0]).view(3, 1, 1) / 1000  # ITU-R 601-2
    torch.testing.assert_close(gray[1, 0].float(), (color[1].float() * luma).sum(0), atol=1, rtol=0)


def test_a_config_takes_shape_and_classes_from_the_folder(folder: Path) -> None:
    config = composed("data=image_folder", f"data.source.root={folder}")
    assert list(config.data.shape) == [3, 8, 8] and config.data.classes == 3
    assert build_module(config).net(load_data(config).split("train").x[:2].float()).shape == (2, 3)
    resized = composed("data=image_folder", f"data.source.root={folder}", "data.source.size=[6,4]", "data.source.channels=1")
    assert list(resized.data.shape) == [1, 6, 4]
    assert load_data(resized).split("train").x.shape[1:] == (1, 6, 4)


def test_a_cell_depends_on_its_images_and_not_on_their_folder(folder: Path, tmp_path: Path) -> None:
    def digest(root: Path) -> str:
        measured.cache_clear()
        return Cell.of(composed("data=image_folder", f"data.source.root={root}")).digest

    before = digest(folder)
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert digest(moved) == before
    save(moved / "train" / "ant" / "more.png", random_image(0, 99))
    assert digest(moved) != before


def test_images_that_changed_since_the_configuration_raise(folder: Path) -> None:
    content = ImageFolder(root=str(folder)).measure().content
    ImageFolder(root=str(folder), content=content).load()
    save(folder / "train" / "ant" / "more.png", random_image(0, 99))
    with pytest.raises(DataError, match="the data has changed since this run was configured"):
        ImageFolder(root=str(folder), content=content).load()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


INVALID: dict[str, tuple[Callable[[Path], object], str]] = {
    "a broken file": (
        lambda root: (root / "train/bee/03.png").write_bytes(b"not an image"),
        r"train/bee/03\.png cannot be read as an image",
    ),
    "a file cut short": (
        lambda root: truncate(root / "test/cat/11.png"),
        r"test/cat/11\.png cannot be read as an image \(.*Replace or delete it",
    ),
    "an empty file": (lambda root: (root / "train/cat/09.png").write_bytes(b""), r"train/cat/09\.png cannot be read"),
    "an empty class": (lambda root: (root / "train/dog").mkdir(), "train/dog has no images .*delete the class folder"),
    "an empty class of the test": (lambda root: shutil.rmtree(root / "test/bee"), "test/bee has no images"),
    "a class that is not learned": (
        lambda root: save(root / "test/dog/0.png", random_image(3, 0)),
        "test/dog: .*train has no class of this name",
    ),
    "several sizes": (
        lambda root: save(root / "train/bee/x.png", random_image(1, 99, (9, 7))),
        r"train/bee/x\.png: the image has 9x7 pixels, but the first one has 8x8\. .*data\.source\.size=8",
    ),
    "sixteen bits": (
        lambda root: save(root / "train/ant/00.png", np.full((8, 8), 40_000, np.uint16)),
        r"train/ant/00\.png: the image has more than 8 bits per channel",
    ),
    "no classes": (
        lambda root: [path.rename(root / path.name) for path in (root / "train").iterdir()],
        "train has no folders",
    ),
    "one class": (
        lambda root: [path.rename(root / path.name) for path in (root / "train").iterdir() if path.name != "ant"],
        "train has only one class folder, ant. Add at least one more class",
    ),
    "no folder": (shutil.rmtree, r"data\.source\.root=.*: the folder does not exist"),
}


@pytest.mark.parametrize("problem", INVALID)
def test_invalid_folders_raise_with_the_reason(folder: Path, problem: str) -> None:
    damage, message = INVALID[problem]
    damage(folder)
    with pytest.raises(DataError, match=message):
        ImageFolder(root=str(folder)).load()


def test_a_missing_test_folder_raises(folder: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source\.test=held: folder .*/held does not exist"):
        ImageFolder(root=str(folder), test="held").load()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((10, 10, 1), "class cat has 1 image, but training, validation and test need one each. Add images, or delete"),
        ((10, 2, 10), "class bee has 2 images, but"),
        ((3, 3, 3), "9 images are too few for a stratified test split"),
    ],
)
def test_too_few_images_for_a_test_split_raise(tmp_path: Path, counts: tuple[int, ...], message: str) -> None:
    for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
        for number in range(count):
            save(tmp_path / name / f"{number}.png", random_image(label, number))
    with pytest.raises(DataError, match=message):
        ImageFolder(root=str(tmp_path)).load()


def test_errors_are_shown_without_a_traceback(folder: Path, temper: Temper) -> None:
    (folder / "train/bee/03.png").write_bytes(b"not an image")
    for settings, message in (
        ((f"data.source.root={folder}",), "03.png cannot be read as an image"),
        (("data.source.root=nowhere",), "nowhere: the folder does not exist"),
        ((), "data.source.root"),
    ):
        status, output = temper("train", "data=image_folder", *settings)
        assert status == 1 and message in output and "interpolation" not in output, output
        assert len(output.strip().splitlines()) <= 2, output


def test_tiny_imagenet_in_its_published_layout(tmp_path: Path) -> None:
    for label, name in enumerate(("n01", "n02")):
        for number in range(3):
            save(tmp_path / "train" / name / "images" / f"{name}_{number}.JPEG", random_image(label, number, (64, 64)))
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("boxes")
    for number, label in enumerate((1, 0)):
        save(tmp_path / "val" / "images" / f"val_{number}.JPEG", random_image(label, 9, (64, 64)))
    annotations = tmp_path / "val" / "val_annotations.txt"
    annotations.write_text("val_0.JPEG\tn02\t0\t0\t62\t62\nval_1.JPEG\tn01\t0\t0\t62\t62\n")
    x_train, y_train, x_test, y_test = TinyImageNet(root=str(tmp_path)).load()
    assert x_train.shape == (6, 3, 64, 64) and y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert x_test.shape == (2, 3, 64, 64) and y_test.tolist() == [1, 0]
    annotations.write_text("val_7.JPEG\tn01\t0\t0\t62\t62\n")
    with pytest.raises(DataError, match=r"line 1: .*val_7\.JPEG does not exist\. Unpack the archive again"):
        TinyImageNet(root=str(tmp_path)).load()
    annotations.write_text("val_0.JPEG\tn03\t0\t0\t62\t62\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt, line 1: train has no class 'n03'"):
        TinyImageNet(root=str(tmp_path)).load()
    annotations.unlink()
    with pytest.raises(DataError, match=r"val_annotations\.txt does not exist\. Unpack .*data\.source\.root=FOLDER"):
        TinyImageNet(root=str(tmp_path)).load()


def test_a_config_of_imagenette_has_the_digest_of_its_files(tmp_path: Path) -> None:
    for part, number in (("train", 2), ("val", 1)):
        for label, name in enumerate(("n01", "n02")):
            for image in range(number):
                save(tmp_path / "imagenette2-160" / part / name / f"{image}.png", random_image(label, image, (20, 20)))
    config = composed("data=imagenette", "model=preact_resnet18", f"paths.data={tmp_path}")
    assert list(config.data.shape) == [3, 128, 128] and len(config.data.source.content) == 16
