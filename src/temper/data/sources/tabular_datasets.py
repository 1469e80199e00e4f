"""Where tables come from: a file, OpenML, scikit-learn."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from temper.config.types import Count, checked
from temper.data.sources.csv_files import located_files, not_found, read_rows, searched
from temper.data.sources.download import atomic_download
from temper.data.sources.fingerprint import bytes_of, unchanged
from temper.data.sources.interfaces import Measured
from temper.data.sources.tabular import Columns, Frame, Table


@final
class BreastCancer(Table):
    """569 tumours that come with scikit-learn (Wisconsin Diagnostic Breast Cancer): 30 measures of cell nuclei, malignant (the
    positive class) or benign."""

    def __init__(self, **columns: Any) -> None:
        super().__init__(**{"target": "target", "positive": 0, **columns})

    def frames(self) -> tuple[Frame, Frame | None]:
        from sklearn.datasets import load_breast_cancer

        return Frame(load_breast_cancer(as_frame=True).frame, "breast_cancer"), None


@final
class TableFile(Table):
    """A file of rows whose values are kept apart by commas, semicolons or tabs, packed by gzip or not.

    Args:
        root: folder of the files.
        path: of the rows, below the folder, or else the working one; with ".gz" behind it if that is what is there.
        test: likewise of rows for the test; None: some are held out.
        names: of the columns, where the file does not begin with them.
        openml: number of the data set at openml.org that is fetched and becomes the file, by the name of the file: one of
            another name that is missing is a mistake.
        download: whether it may be fetched.
        columns: settings of `Table`.

    Raises:
        DataError: a file is missing, damaged or empty, or could not be fetched.
    """

    @checked
    def __init__(
        self,
        *,
        root: str,
        path: str,
        test: str | None = None,
        names: Columns | None = None,
        openml: Mapping[str, Count] | None = None,
        download: bool = True,
        **columns: Any,
    ) -> None:
        super().__init__(**columns)
        self.root, self.path, self.test = Path(root).expanduser().resolve(), path, test
        self.names, self.openml = names, (openml or {}).get(path) if download else None

    def measure(self) -> Measured:
        return Measured(self.shape, self.classes, bytes_of(self._files()))

    def frames(self) -> tuple[Frame, Frame | None]:
        files = self._files()
        unchanged(self.content, bytes_of(files), " and ".join(map(str, files)))
        train, *test = (Frame(read_rows(path, names=self.names), path.name) for path in files)
        return train, test[0] if test else None

    def _files(self) -> list[Path]:
        if self.openml is not None and searched(self.path, self.root) is None:
            self._fetch()
        return located_files(self.root, self.path, self.test)

    def _fetch(self) -> None:
        from sklearn.datasets import fetch_openml

        with atomic_download(self.root, f"openml-{self.openml}") as folder, warnings.catch_warnings():
            if (self.root / self.path).is_file():  # another process was quicker
                return
            warnings.simplefilter("ignore")  # of each try
            try:
                rows = fetch_openml(data_id=self.openml, as_frame=True, parser="pandas", cache=False).frame
            except Exception as error:  # of the network, of the site, of what it sent
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                why = f", and openml.org gave no data set {self.openml} ({reason})"
                raise not_found(self.path, self.root, "path", why) from error
            (folder / self.path).parent.mkdir(parents=True, exist_ok=True)
            rows.to_csv(folder / self.path, index=False)
