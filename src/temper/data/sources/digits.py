"""The digits data set of scikit-learn."""

import numpy as np
import torch

from temper.data.sources.interfaces import Arrays


class Digits:
    """1,797 real handwritten 8x8 digits that come with scikit-learn (UCI "Optical Recognition of Handwritten Digits").

    Pixel values 0 to 16 are scaled to [0, 1]. A stratified quarter is held out as the test split, the same for all runs.
    """

    def load(self) -> Arrays:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        x_train, x_test, y_train, y_test = train_test_split(x, labels, test_size=0.25, stratify=labels, random_state=0)
        return Arrays(*map(torch.from_numpy, (x_train, y_train, x_test, y_test)))
