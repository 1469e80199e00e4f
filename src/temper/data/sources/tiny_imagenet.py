"""Tiny ImageNet in its published layout."""

from pathlib import Path

from temper.config.types import checked
from temper.data.sources.fingerprint import check_unchanged, warn_if_incomplete
from temper.data.sources.image_folder import LabeledPaths, class_names, dataset_info, list_class_images, load_images
from temper.data.sources.interfaces import Arrays, DataError, DatasetInfo

SHAPE = (3, 64, 64)


class TinyImageNet:
    """200 classes of ImageNet at 64x64, 100,000 training and 10,000 test images (Stanford CS231n, 2015).

    The published test set has no labels. The test split is therefore the published validation set, whose classes are listed in
    `val/val_annotations.txt`. Use `ImageFolder` for a copy whose validation images are sorted into class folders.

    Args:
        root: The folder `tiny-imagenet-200`.
        content: Digest that `measure` returned when the run was configured. None means no check.

    Raises:
        DataError: On `load` and `measure`: the folder is missing or incomplete, or has changed since, or a file cannot be read.
    """

    @checked
    def __init__(self, *, root: str, content: str | None = None) -> None:
        self.root, self.content = Path(root).expanduser().resolve(), content

    def measure(self) -> DatasetInfo:
        """Return shape, classes and digest without decoding the images."""
        train, test = self._list_images()
        return dataset_info(train, test, SHAPE, self.root)

    def load(self) -> Arrays:
        train, test = self._list_images()
        check_unchanged(self.content, dataset_info(train, test, SHAPE, self.root).content, self.root)
        warn_if_incomplete(self.root, len(train.paths) + len(test.paths), 110_000)
        return load_images(train, test, SHAPE, resize=False)

    def _list_images(self) -> tuple[LabeledPaths, LabeledPaths]:
        train, annotations = self.root / "train", self.root / "val" / "val_annotations.txt"
        for path in (train, annotations):
            if not path.exists():
                raise DataError(
                    f"{path} does not exist. Unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip, and name its folder: "
                    "data.source.root=FOLDER."
                )
        names = class_names(train)
        return list_class_images(train, names), _annotated_images(annotations, names)


def _annotated_images(annotations: Path, names: list[str]) -> LabeledPaths:
    """Return the images that a file of lines `name<TAB>class<TAB>box` lists; they are in `images` next to it."""
    paths: list[Path] = []
    labels: list[int] = []
    for number, line in enumerate(annotations.read_text().splitlines(), start=1):
        name, _, rest = line.partition("\t")
        label = rest.partition("\t")[0]
        if label not in names:
            raise DataError(f"{annotations}, line {number}: train has no class {label!r}. Unpack the archive again.")
        paths.append(annotations.parent / "images" / name)
        if not paths[-1].is_file():
            raise DataError(f"{annotations}, line {number}: {paths[-1]} does not exist. Unpack the archive again.")
        labels.append(names.index(label))
    return LabeledPaths(paths, labels)
