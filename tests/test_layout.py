"""Tests of the package layout: few entries, small folders, unique file names.

The order of imports and the absence of import cycles are contracts of import-linter, which `make check` runs.
"""

from collections import Counter
from pathlib import Path

import temper

PACKAGE = Path(temper.__file__).parent
MODULES = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]


def test_the_package_root_has_few_entries() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__init__.py", "__pycache__", "conf"}
    assert len(entries) <= 12, sorted(entries)


def test_file_names_are_unique() -> None:
    assert not [name for name, count in Counter(path.name for path in MODULES).items() if count > 1]


def test_folders_are_small() -> None:
    crowded = {str(folder): count for folder, count in Counter(path.parent for path in MODULES).items() if count > 15}
    assert not crowded


def test_no_file_is_deeper_than_two_folders() -> None:
    assert max(len(path.relative_to(PACKAGE).parts) for path in MODULES) <= 3
