"""Where tables come from: a file, OpenML, scikit-learn."""

import zlib
from pathlib import Path
from typing import Any, final

import pandas as pd

from temper.arguments import Count, checked
from temper.data.sources.content import bytes_of, unchanged
from temper.data.sources.source import DataError, Measured
from temper.data.sources.table import Columns, Frames, Table


@final
class BreastCancer(Table):
    """569 tumours that come with scikit-learn (Wisconsin Diagnostic Breast Cancer): 30 measures of cell nuclei, malignant (the
    positive class) or benign."""

    def __init__(self, **columns: Any) -> None:
        super().__init__(**{"target": "target", "positive": 0, **columns})

    def frames(self) -> Frames:
        from sklearn.datasets import load_breast_cancer

        return Frames(load_breast_cancer(as_frame=True).frame, None, "breast_cancer")


@final
class TableFile(Table):
    """A file of rows separated by commas, compressed or not.

    Args:
        root: folder of the files.
        path: of the rows, below the folder, or else the working one; with ".gz" behind it if that is what is there.
        test: likewise of rows for the test; None: some are held out.
        names: of the columns, where the file does not begin with them.
        openml: number of the data set at openml.org that is fetched where there is no file; None: none is.
        download: whether it may be fetched.
        columns: settings of `Table`.

    Raises:
        DataError: a file is missing, damaged or empty, or could not be fetched.
    """

    def __init__(
        self,
        *,
        root: str,
        path: str,
        test: str | None = None,
        names: Columns | None = None,
        openml: int | None = None,
        download: bool = True,
        **columns: Any,
    ) -> None:
        super().__init__(**columns)
        self.place = Place(root=root, path=path, test=test, openml=openml, download=download)
        self.names = names

    def measure(self) -> Measured:
        return Measured(self.shape, self.classes, self.place.digest)

    def frames(self) -> Frames:
        unchanged(self.content, self.place.digest, self.place.root / self.place.path)
        train, test = self.place.files()
        if train is None:
            return Frames(self.place.fetched(), None, f"openml {self.place.openml}")
        name = train.name if test is None else f"{train.name} and {test.name}"
        return Frames(self._read(train), None if test is None else self._read(test), name)

    def _read(self, path: Path) -> pd.DataFrame:
        header: dict[str, Any] = {} if self.names is None else {"names": list(self.names), "header": None, "index_col": False}
        try:
            # An empty field is what is missing; "NA" and "None" may be categories.
            return pd.read_csv(path, keep_default_na=False, na_values={}, low_memory=False, **header)
        except pd.errors.EmptyDataError:
            raise DataError(f"{path} is empty: bring the file, or name another one by data.source.path=FILE") from None
        except (EOFError, OSError, zlib.error, UnicodeDecodeError, pd.errors.ParserError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(
                f"{path} is damaged or was cut short ({reason}): bring it whole, or name another one by data.source.path=FILE"
            ) from None


class Place:
    """Files of rows, and where they can be fetched."""

    @checked
    def __init__(self, *, root: str, path: str, test: str | None, openml: Count | None, download: bool) -> None:
        self.root, self.path, self.test = Path(root).expanduser().resolve(), path, test
        self.openml, self.download = openml, download

    def files(self) -> tuple[Path | None, Path | None]:
        """Of the rows, and of those for the test; None for the first where it is to be fetched."""
        train = self._file(self.path, "path")
        return train, None if self.test is None else self._file(self.test, "test")

    def _file(self, name: str, key: str) -> Path | None:
        for folder in (self.root, Path.cwd()):
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
        if self.openml is not None and self.download:
            return None
        raise self._missing(name, key, "")

    def fetched(self) -> pd.DataFrame:
        from sklearn.datasets import fetch_openml

        try:
            return fetch_openml(data_id=self.openml, as_frame=True, parser="auto", data_home=str(self.root)).frame
        except Exception as error:  # of the network, of the site, of what it sent
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise self._missing(self.path, "path", f", and openml.org gave no data set {self.openml} ({reason})") from error

    def _missing(self, name: str, key: str, why: str) -> DataError:
        return DataError(
            f"{name} was not found in {self.root} or {Path.cwd()}{why}. Put it there, name the folder that holds it: "
            f"paths.data=FOLDER, or another file: data.source.{key}=FILE"
        )

    @property
    def digest(self) -> str:
        """Of the bytes of the files, or which data set is fetched."""
        train, test = self.files()
        if train is None:
            return f"openml {self.openml}"
        return bytes_of(path for path in (train, test) if path is not None)
