"""Images in one folder per class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from temper.config.types import Count, checked
from temper.data.sources.fingerprint import check_unchanged, digest_listing
from temper.data.sources.image_decoding import decode_images, image_size
from temper.data.sources.interfaces import Arrays, DataError, DatasetInfo
from temper.data.sources.labels import split_train_test

TEST_FRACTION = 0.2  # held out where there is no folder of test images


class LabeledPaths(NamedTuple):
    """Image files with the numbers of their classes."""

    paths: list[Path]
    labels: list[int]


class ImageFolder:
    """Images in `train/<class>/…` and `test/<class>/…` (or `val`) below one folder, or in `<class>/…` alone.

    Without a test folder, a stratified fifth of the images is held out as the test split, the same for all runs. Classes are
    numbered in the order of their names.

    A class folder may have subfolders and other files. If both `test` and `val` exist, `test` is used; the validation split
    is always taken from `train`.

    Args:
        root: Folder of the data set.
        size: Size to which images are resized: one number, or rows and columns. Images are scaled until they cover it and
            cropped at the center. None means that all images have the same size.
        channels: 3 for color, 1 for gray. Images are converted.
        test: Name of the folder of test images. None means `test`, or else `val`.
        content: Digest that `measure` returned when the run was configured. None means no check.

    Raises:
        DataError: On `load` and `measure`: the folder is missing, empty, not structured as described, or has changed since,
            or a file cannot be read.
    """

    @checked
    def __init__(
        self,
        *,
        root: str,
        size: Count | tuple[Count, Count] | None = None,
        channels: Literal[1, 3] = 3,
        test: str | None = None,
        content: str | None = None,
    ) -> None:
        self.root, self.content = Path(root).expanduser().resolve(), content
        self.size, self.channels, self.test = size, channels, test

    def measure(self) -> DatasetInfo:
        """Return shape, classes and digest without decoding the images."""
        return self._info(*self._list_images())

    def load(self) -> Arrays:
        train, test = self._list_images()
        info = self._info(train, test)
        check_unchanged(self.content, info.content, self.root)
        return load_images(train, test, info.shape, resize=self.size is not None)

    def _info(self, train: LabeledPaths, test: LabeledPaths) -> DatasetInfo:
        if self.size is None:
            rows, columns = image_size(train.paths[0])
        else:
            rows, columns = (self.size, self.size) if isinstance(self.size, int) else self.size
        return dataset_info(train, test, (self.channels, rows, columns), self.root)

    def _list_images(self) -> tuple[LabeledPaths, LabeledPaths]:
        """Return the images for training and for the test."""
        if not self.root.is_dir():
            raise DataError(
                f"data.source.root={self.root}: the folder does not exist. Name a folder that has train/<class>/*.png or "
                "<class>/*.png."
            )
        train_folder = self.root / "train" if (self.root / "train").is_dir() else self.root
        names = class_names(train_folder)
        if len(names) == 1:
            raise DataError(f"{train_folder} has only one class folder, {names[0]}. Add at least one more class.")
        train = list_class_images(train_folder, names)
        candidates = [self.root / name for name in ([self.test] if self.test else ["test", "val"])]
        test_folder = next((folder for folder in candidates if folder.is_dir()), None)
        if test_folder is None and self.test:
            raise DataError(f"data.source.test={self.test}: folder {candidates[0]} does not exist. Name an existing folder.")
        if test_folder is None or train_folder == self.root:
            return _hold_out(train, names, train_folder)
        if unknown := sorted(set(class_names(test_folder)) - set(names)):
            raise DataError(
                f"{test_folder / unknown[0]}: {train_folder} has no class of this name. Delete the folder, or add images "
                "for training."
            )
        return train, list_class_images(test_folder, names)


def class_names(tree: Path) -> list[str]:
    """Return the sorted names of the class folders.

    Raises:
        DataError: There are none.
    """
    names = sorted(entry.name for entry in tree.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{tree} has no folders. Put the images of each class into a folder of this name.")
    return names


def list_class_images(tree: Path, names: Sequence[str]) -> LabeledPaths:
    """Return all images of the given classes, class by class, sorted by name.

    Args:
        tree: Parent of the class folders.
        names: Names of the class folders, in the order of their numbers.

    Raises:
        DataError: A class has no images.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        images = sorted(path for path in (tree / name).rglob("*") if _is_image(path))
        if not images:
            raise DataError(f"{tree / name} has no images ({' '.join(IMG_EXTENSIONS)}). Add some, or delete the class folder.")
        paths += images
        labels += [label] * len(images)
    return LabeledPaths(paths, labels)


def dataset_info(train: LabeledPaths, test: LabeledPaths, shape: tuple[int, ...], root: Path) -> DatasetInfo:
    """Return the properties of a data set of image files below `root`, whose images have the given shape."""
    return DatasetInfo(shape, len(set(train.labels)), digest_listing([*train.paths, *test.paths], root))


def load_images(train: LabeledPaths, test: LabeledPaths, shape: Sequence[int], *, resize: bool) -> Arrays:
    """Decode the images of both splits (see `decode_images`)."""
    x_train, x_test = (decode_images(part.paths, shape, resize=resize) for part in (train, test))
    return Arrays(x_train, torch.tensor(train.labels), x_test, torch.tensor(test.labels))


def _is_image(path: Path) -> bool:
    # macOS writes a hidden companion file `._<name>` for each image on foreign file systems.
    return path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".") and path.is_file()


def _hold_out(images: LabeledPaths, names: Sequence[str], tree: Path) -> tuple[LabeledPaths, LabeledPaths]:
    labels = [names[label] for label in images.labels]
    kept, held = split_train_test(labels, TEST_FRACTION, str(tree), unit="image", remedy="delete the class")
    return tuple(  # type: ignore[return-value]
        LabeledPaths([images.paths[row] for row in part], [images.labels[row] for row in part]) for part in (kept, held)
    )
