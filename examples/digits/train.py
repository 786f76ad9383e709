"""Trains the digit classifier, in seconds: `python examples/digits/train.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier

from data import held_out, to_learn
from digits import BRIGHTEST, MODEL, reduced

__all__ = ["train"]


def train(model: Path = MODEL) -> float:
    """Write the model's weights; gives its accuracy on the images that it never saw."""
    images, digits = to_learn()
    # Each image twice: as it stands in the data, and as it comes when someone sends it as a picture.
    images = np.concatenate([images, [reduced(image / BRIGHTEST) for image in images]])
    digits = np.tile(digits, 2)
    network = MLPClassifier(hidden_layer_sizes=(64,), alpha=1e-2, max_iter=120, tol=1e-3, random_state=7)
    network.fit(_rows(images), digits)
    (hidden, out), (hidden_bias, out_bias) = network.coefs_, network.intercepts_
    model.parent.mkdir(exist_ok=True)
    # Written whole, then named: a worker that starts meanwhile sees the old model or the new one.
    draft = model.with_suffix(".draft.npz")
    np.savez(draft, hidden=hidden, hidden_bias=hidden_bias, out=out, out_bias=out_bias)
    draft.replace(model)
    images, digits = held_out()
    return float(network.score(_rows(images), digits))


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / BRIGHTEST


if __name__ == "__main__":
    print(f"{MODEL}: {train():.1%} right on images that it never saw")
