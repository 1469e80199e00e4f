"""Sources of data sets: each loads its arrays, which the datamodule splits, encodes and batches."""

from temper.data.sources.digits import Digits
from temper.data.sources.image_folder import ImageFolder
from temper.data.sources.interfaces import Arrays, Bounded, DataError, Encoder, Fitting, Source, Spelling, Telling
from temper.data.sources.tabular import Table
from temper.data.sources.tabular_datasets import BreastCancer, TableFile
from temper.data.sources.text_datasets import IMDB, SST2, SMSSpam, TextFile
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
