"""Where data sets come from: a source loads arrays, the datamodule splits, encodes and batches them."""

from temper.data.sources.digits import Digits
from temper.data.sources.image_folder import ImageFolder
from temper.data.sources.source import Arrays, Bounded, DataError, Encoder, Fitting, Source, Spelling, Telling
from temper.data.sources.table import Table
from temper.data.sources.table_files import BreastCancer, TableFile
from temper.data.sources.text import IMDB, SST2, SMSSpam, TextFile
from temper.data.sources.tiny_imagenet import TinyImageNet
from temper.data.sources.torchvision import TorchVision

__all__ = [
    "IMDB",
    "SST2",
    "Arrays",
    "Bounded",
    "BreastCancer",
    "DataError",
    "Digits",
    "Encoder",
    "Fitting",
    "ImageFolder",
    "SMSSpam",
    "Source",
    "Spelling",
    "Table",
    "TableFile",
    "Telling",
    "TextFile",
    "TinyImageNet",
    "TorchVision",
]
