"""Sources of tables: a file, OpenML and scikit-learn."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from temper.config.errors import first_line
from temper.config.types import Count, checked
from temper.data.sources.csv_files import find_file, locate_files, not_found_error, read_rows
from temper.data.sources.download import atomic_download
from temper.data.sources.fingerprint import check_unchanged, digest_contents
from temper.data.sources.interfaces import DatasetInfo
from temper.data.sources.tabular import Columns, NamedFrame, Table


@final
class BreastCancer(Table):
    """569 tumors that come with scikit-learn (Wisconsin Diagnostic Breast Cancer).

    30 measurements of cell nuclei, and the classes malignant (positive) and benign.

    Args:
        columns: Settings of `Table`.
    """

    def __init__(self, **columns: Any) -> None:
        super().__init__(**{"target": "target", "positive": 0, **columns})

    def frames(self) -> tuple[NamedFrame, NamedFrame | None]:
        from sklearn.datasets import load_breast_cancer

        return NamedFrame(load_breast_cancer(as_frame=True).frame, "breast_cancer"), None


@final
class TableFile(Table):
    """Rows of a file whose values are separated by commas, semicolons or tabs, optionally compressed by gzip.

    Args:
        root: Folder of the files.
        path: File of the rows, below `root` or else below the working folder. `<path>.gz` is used if only that exists.
        test: File of the test rows, in the same folders. None holds out a part of the rows (see `Table`).
        names: Names of the columns, for a file without a header line.
        openml: Numbers of data sets at openml.org, by the `path` for which they are downloaded if it is missing. A missing file
            of any other name is an error.
        download: Allow the download.
        columns: Settings of `Table`.

    Raises:
        DataError: On `load` and `measure`: a file is missing, damaged, empty or changed, or cannot be downloaded.
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

    def measure(self) -> DatasetInfo:
        """Return shape, classes and digest of the files."""
        return DatasetInfo(self.shape, self.classes, digest_contents(self._files()))

    def frames(self) -> tuple[NamedFrame, NamedFrame | None]:
        files = self._files()
        check_unchanged(self.content, digest_contents(files), " and ".join(map(str, files)))
        train, *test = (NamedFrame(read_rows(path, names=self.names), path.name) for path in files)
        return train, test[0] if test else None

    def _files(self) -> list[Path]:
        if self.openml is not None and find_file(self.path, self.root) is None:
            self._fetch()
        return locate_files(self.root, self.path, self.test)

    def _fetch(self) -> None:
        from sklearn.datasets import fetch_openml

        with atomic_download(self.root, f"openml-{self.openml}") as folder, warnings.catch_warnings():
            if (self.root / self.path).is_file():  # another process was faster
                return
            warnings.simplefilter("ignore")  # scikit-learn warns at each attempt
            try:
                rows = fetch_openml(data_id=self.openml, as_frame=True, parser="pandas", cache=False).frame
            except Exception as error:  # network, site and content can fail in many ways
                why = f", and openml.org did not provide data set {self.openml} ({first_line(error)})"
                raise not_found_error(self.path, self.root, "path", why) from error
            (folder / self.path).parent.mkdir(parents=True, exist_ok=True)
            rows.to_csv(folder / self.path, index=False)
