"""The digits that come with scikit-learn."""

import numpy as np
import torch

from temper.data.sources.interfaces import Arrays


class Digits:
    """The 1,797 real handwritten 8x8 digits that come with scikit-learn (UCI "Optical Recognition of Handwritten Digits").

    Values 0..16 become [0, 1]. The set has no test split of its own: a stratified quarter is held out, the same for all runs.
    """

    def load(self) -> Arrays:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        x_train, x_test, y_train, y_test = train_test_split(x, labels, test_size=0.25, stratify=labels, random_state=0)
        return Arrays(*map(torch.from_numpy, (x_train, y_train, x_test, y_test)))
