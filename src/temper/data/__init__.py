"""Data sets as sources, the datamodule that splits and batches them, and the batch."""

from temper.data.batch import Batch
from temper.data.datamodule import DataModule
from temper.data.domain import Domain
from temper.data.loader import Loader
from temper.data.sources import (
    IMDB,
    SST2,
    Arrays,
    BreastCancer,
    DataError,
    Digits,
    ImageFolder,
    SMSSpam,
    Table,
    TableFile,
    TextFile,
    TinyImageNet,
    TorchVision,
)

__all__ = [
    "IMDB",
    "SST2",
    "Arrays",
    "Batch",
    "BreastCancer",
    "DataError",
    "DataModule",
    "Digits",
    "Domain",
    "ImageFolder",
    "Loader",
    "SMSSpam",
    "Table",
    "TableFile",
    "TextFile",
    "TinyImageNet",
    "TorchVision",
]
