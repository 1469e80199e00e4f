"""Images in one folder for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from temper.config.types import Count, checked
from temper.data.sources.fingerprint import listing_of, unchanged
from temper.data.sources.image_decoding import decode, size_of
from temper.data.sources.interfaces import Arrays, DataError, Measured
from temper.data.sources.labels import held_out

HELD_OUT = 0.2  # share of the images that is for testing where the folder does not say which


class Labelled(NamedTuple):
    """Image files, and the number of the class that each belongs to."""

    paths: list[Path]
    labels: list[int]


class ImageFolder:
    """`train/<class>/…` and `test/<class>/…` (or `val`) below one folder; or `<class>/…` alone, of which a stratified fifth is
    held out for testing, the same for all runs. Classes are numbered by their sorted names.

    A class may have folders of its own, and other files beside its images. With both `test` and `val` the first is taken; what
    validates comes from `train` here.

    Args:
        root: the folder.
        size: of the images, one number or rows and columns: others are scaled until they cover it, and cut at the centre. None:
            all are of one size.
        channels: 3 for colours, 1 for grey; images are converted.
        test: name of the folder of test images.
        content: what `measure` said of the folder when the run was set up; None: anything.

    Raises:
        DataError: the folder is missing, empty, not as described, or has changed since; a file in it is broken.
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
        self.root, self.size, self.channels, self.test, self.content = root, size, channels, test, content

    def measure(self) -> Measured:
        return measure(self.root, self.size, self.channels, self.test)

    def load(self) -> Arrays:
        found = self.measure()
        unchanged(self.content, found.content, self.root)
        train, test = list_images(self.root, self.test)
        return load_images(train, test, found.shape, resize=self.size is not None)


def measure(root: str, size: int | tuple[int, int] | None, channels: int, test: str | None) -> Measured:
    """The shape, the classes and the content of an `ImageFolder`, without decoding its images."""
    train, held = list_images(root, test)
    rows, columns = size_of(train.paths[0]) if size is None else (size, size) if isinstance(size, int) else size
    content = listing_of([*train.paths, *held.paths], _folder(root))
    return Measured((channels, rows, columns), len(set(train.labels)), content)


def list_images(root: str, test: str | None = None) -> tuple[Labelled, Labelled]:
    """The images to train on, and those to test on.

    Raises:
        DataError: see `ImageFolder`.
    """
    folder = _folder(root)
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}: data.source.root names the one that holds train/<class>/*.png, or <class>/*.png"
        )
    train = folder / "train" if (folder / "train").is_dir() else folder
    names = class_names(train)
    if len(names) == 1:
        raise DataError(f"{train} holds the folder of one class alone, {names[0]}: there should be two at least")
    found = labelled(train, names)
    held = next((folder / name for name in ([test] if test else ["test", "val"]) if (folder / name).is_dir()), None)
    if held is None and test:
        raise DataError(f"data.source.test: there is no folder {folder / test}")
    if held is None or train == folder:
        return _divided(found, names, train)
    if strange := sorted(set(class_names(held)) - set(names)):
        raise DataError(f"{held / strange[0]}: {train} has no class of this name to learn; delete it, or add images to {train}")
    return found, labelled(held, names)


def class_names(tree: Path) -> list[str]:
    """The sorted names of the folders in a folder."""
    names = sorted(entry.name for entry in tree.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{tree} holds no folders: each class should have one with its images")
    return names


def labelled(tree: Path, names: Sequence[str]) -> Labelled:
    """All images of these classes, class by class, sorted by name."""
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(path for path in (tree / name).rglob("*") if _is_image(path))
        if not found:
            raise DataError(f"{tree / name} holds no images ({' '.join(IMG_EXTENSIONS)}): add some, or delete the class")
        paths += found
        labels += [label] * len(found)
    return Labelled(paths, labels)


def load_images(train: Labelled, test: Labelled, shape: Sequence[int], *, resize: bool) -> Arrays:
    """Both parts as arrays."""
    x_train, x_test = (decode(part.paths, shape, resize=resize) for part in (train, test))
    return Arrays(x_train, torch.tensor(train.labels), x_test, torch.tensor(test.labels))


def _folder(root: str) -> Path:
    return Path(root).expanduser().resolve()


def _is_image(path: Path) -> bool:
    # Some systems leave a hidden file beside each image, of the same name.
    return path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".") and path.is_file()


def _divided(images: Labelled, names: Sequence[str], tree: Path) -> tuple[Labelled, Labelled]:
    labels = [names[label] for label in images.labels]
    kept, held = held_out(labels, HELD_OUT, str(tree), unit="image", cure="delete the class")
    return tuple(  # type: ignore[return-value]
        Labelled([images.paths[row] for row in part], [images.labels[row] for row in part]) for part in (kept, held)
    )
