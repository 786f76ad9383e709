"""The 1,797 handwritten digits that ship with scikit-learn, split once and for all.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

__all__ = ["held_out", "to_learn"]


def to_learn() -> tuple[np.ndarray, np.ndarray]:
    """Give the images, N x 8 x 8 from 0 to 16, and digits that the model may learn from: three quarters of all."""
    images, _, digits, _ = _split()
    return images, digits


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """Give the images and digits that the model never saw: to be judged by, and to be shown."""
    _, images, _, digits = _split()
    return images, digits


def _split() -> list[np.ndarray]:
    data = load_digits()
    return train_test_split(data.images, data.target, test_size=0.25, random_state=7, stratify=data.target)
