"""Reads handwritten digits: an image in, the digit and how sure the model is out.

The model is a small neural network, trained by `train.py` and kept as plain arrays: a worker needs neither the training
library nor a pickle, and loads it in a millisecond.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from penstock import Handler, InvalidInput

__all__ = ["BRIGHTEST", "MODEL", "Digits", "reduced"]

MODEL: Final = Path(__file__).with_name(".model") / "digits.npz"
SIDE: Final = 8  # the model sees 8 x 8 pixels ...
BRIGHTEST: Final = 16.0  # ... from 0, paper, to 16, ink: the units of the data it learned from
FAINTEST: Final = 0.2  # of the darkest ink: what is fainter is dust
MOST_PIXELS: Final = 16_000_000


class Digits(Handler):
    """Answers `{"digit": 7, "confidence": 0.98}` for a PNG or JPEG of one digit, or for `{"pixels": [[...]]}`."""

    model = MODEL

    def load(self) -> None:
        """Read the weights that `train.py` wrote."""
        if not self.model.exists():
            trainer = Path(__file__).with_name("train.py")
            raise FileNotFoundError(f"no model at {self.model}; train it, in seconds: python {trainer}")
        with np.load(self.model) as arrays:
            self.hidden, self.hidden_bias = arrays["hidden"], arrays["hidden_bias"]
            self.out, self.out_bias = arrays["out"], arrays["out_bias"]

    def predict(self, batch: list[Any]) -> list[Any]:
        """Give one answer per image; an unreadable one fails alone."""
        images = [_image(given) for given in batch]
        readable = [image for image in images if not isinstance(image, InvalidInput)]
        answers = iter(self._classify(np.stack(readable)) if readable else [])
        return [image if isinstance(image, InvalidInput) else next(answers) for image in images]

    def _classify(self, images: np.ndarray) -> list[dict[str, Any]]:
        features = images.reshape(len(images), SIDE * SIDE) / BRIGHTEST
        scores = np.maximum(features @ self.hidden + self.hidden_bias, 0) @ self.out + self.out_bias
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        return [{"digit": int(row.argmax()), "confidence": round(float(row.max()), 4)} for row in chances]


def _image(given: Any) -> np.ndarray | InvalidInput:
    try:
        return _of_file(given) if isinstance(given, bytes) else _of_pixels(given)
    except InvalidInput as refusal:
        return refusal


def _of_pixels(document: Any) -> np.ndarray:
    try:
        pixels = np.asarray(document["pixels"], dtype=float)
    except (KeyError, TypeError, ValueError):
        pixels = np.empty(0)
    if pixels.shape != (SIDE, SIDE) or not np.isfinite(pixels).all():
        raise InvalidInput('expected {"pixels": [[...], ...]}: 8 rows of 8 numbers, from 0 (paper) to 16 (ink)')
    return pixels.clip(0, BRIGHTEST)


def _of_file(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as file:
            if file.width * file.height > MOST_PIXELS:
                raise InvalidInput(f"the image has more than {MOST_PIXELS:,} pixels")
            gray = np.asarray(file.convert("L"), dtype=float)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:
        raise InvalidInput("the body is no image that can be read; send a PNG or a JPEG") from fault
    return reduced(_ink(gray))


def _ink(gray: np.ndarray) -> np.ndarray:
    """Give 0 for paper and 1 for ink, whichever of the two is the brighter: the border is paper."""
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    ink = np.abs(gray - np.median(border))
    if ink.max() < 1:
        raise InvalidInput("the image is blank: there is no digit on it")
    return ink / ink.max()


def reduced(ink: np.ndarray) -> np.ndarray:
    """Give the 8 x 8 pixels of a square as high as the digit and centred on it, as in the data the model learned."""
    rows, columns = np.nonzero(ink > FAINTEST)
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    top = (rows.min() + rows.max() + 1 - side) // 2
    left = (columns.min() + columns.max() + 1 - side) // 2
    square = Image.fromarray((ink * 255).astype(np.uint8)).crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float) / 255 * BRIGHTEST
