"""Tiny ImageNet as it is distributed."""

from pathlib import Path

from temper.config.types import checked
from temper.data.sources.fingerprint import listing_of, log_missing, unchanged
from temper.data.sources.image_folder import Labelled, class_names, labelled, load_images
from temper.data.sources.interfaces import Arrays, DataError, Measured

SHAPE = (3, 64, 64)


class TinyImageNet:
    """200 classes of ImageNet, 100,000 images to train on and 10,000 to test on (Stanford CS231n, 2015), 64x64.

    The published test set has no labels: the validation images, whose classes `val/val_annotations.txt` lists, test here.
    A copy whose validation images were sorted into folders by class is an `ImageFolder`.

    Args:
        root: the folder `tiny-imagenet-200`.
        content: what `measure` said of it when the run was set up; None: anything.

    Raises:
        DataError: the folder is missing or incomplete, or a file in it is broken.
    """

    @checked
    def __init__(self, *, root: str, content: str | None = None) -> None:
        self.root, self.content = Path(root).expanduser().resolve(), content

    def measure(self) -> Measured:
        train, test = self._listed()
        return Measured(SHAPE, len(set(train.labels)), listing_of([*train.paths, *test.paths], self.root))

    def load(self) -> Arrays:
        unchanged(self.content, self.measure().content, self.root)
        train, test = self._listed()
        log_missing(self.root, len(train.paths) + len(test.paths), 110_000)
        return load_images(train, test, SHAPE, resize=False)

    def _listed(self) -> tuple[Labelled, Labelled]:
        train, annotations = self.root / "train", self.root / "val" / "val_annotations.txt"
        for path in (train, annotations):
            if not path.exists():
                raise DataError(
                    f"there is no {path}: unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there, or name the folder "
                    "that holds it: data.source.root=FOLDER"
                )
        names = class_names(train)
        return labelled(train, names), _annotated(annotations, names)


def _annotated(annotations: Path, names: list[str]) -> Labelled:
    """The images beside a list of lines `name<TAB>class<TAB>box`."""
    paths: list[Path] = []
    labels: list[int] = []
    for number, line in enumerate(annotations.read_text().splitlines(), start=1):
        name, _, rest = line.partition("\t")
        word = rest.partition("\t")[0]
        if word not in names:
            raise DataError(f"{annotations}, line {number}: {word!r} is no class in train")
        paths.append(annotations.parent / "images" / name)
        if not paths[-1].is_file():
            raise DataError(f"{annotations}, line {number}: there is no {paths[-1]}; unpack the archive again")
        labels.append(names.index(word))
    return Labelled(paths, labels)
