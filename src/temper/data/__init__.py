"""One datamodule, a source per data set, and the batch that flows from them."""

from temper.data.batch import Batch
from temper.data.datamodule import DataModule
from temper.data.domain import Domain
from temper.data.loader import Loader
from temper.data.sources import (
    Arrays,
    BreastCancer,
    DataError,
    Digits,
    ImageFolder,
    Table,
    TableFile,
    TinyImageNet,
    TorchVision,
)

__all__ = [
    "Arrays",
    "Batch",
    "BreastCancer",
    "DataError",
    "DataModule",
    "Digits",
    "Domain",
    "ImageFolder",
    "Loader",
    "Table",
    "TableFile",
    "TinyImageNet",
    "TorchVision",
]
