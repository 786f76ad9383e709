"""Finds what stands out from its background: the bytes of an image in, the bytes of a mask out.

There is no training: what a picture's border shows is its background, each pixel is as far from it as its colour is
unlikely there (Mahalanobis), and Otsu's threshold splits the far from the near. Source: N. Otsu, "A threshold selection
method from gray-level histograms", IEEE Transactions on Systems, Man, and Cybernetics 9(1), 1979.
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
from PIL import Image
from scipy import ndimage

from penstock import Handler, InvalidInput, Response

__all__ = ["Segmentation"]

MOST_PIXELS: Final = 16_000_000
LEAST_SIDE: Final = 8  # pixels
WORKING_SIDE: Final = 640  # the longer side that is worked at, in pixels; the mask has the image's own size
LEAST_DISTANCE: Final = 3.5  # in standard deviations: 99.5 % of the background's own colours lie nearer
LEAST_SHARE: Final = 0.004  # of the image: a smaller spot is dust


class Segmentation(Handler):
    """Answers an image (PNG, JPEG) with a PNG of the same size: white where the object is, black elsewhere."""

    def predict(self, batch: list[Any]) -> list[Any]:
        """Give one mask per image; an unreadable one fails alone."""
        return [_answer(given) for given in batch]


def _answer(given: Any) -> Response | InvalidInput:
    try:
        image = _image(given)
    except InvalidInput as refusal:
        return refusal
    colours = _reduced(image)
    mask = _tidied(_standing_out(colours))
    file = io.BytesIO()
    # A mask of two shades packs well at any level, so a quick one is taken.
    Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST).save(file, "png", compress_level=3)
    return Response(file.getvalue(), "image/png")


def _image(given: Any) -> Image.Image:
    if not isinstance(given, bytes):
        raise InvalidInput("send the bytes of a PNG or a JPEG, not JSON")
    try:
        image = Image.open(io.BytesIO(given))
        if image.width * image.height > MOST_PIXELS:
            raise InvalidInput(f"the image has more than {MOST_PIXELS:,} pixels")
        if min(image.size) < LEAST_SIDE:
            raise InvalidInput(f"the image is smaller than {LEAST_SIDE} x {LEAST_SIDE}: it shows no background")
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as fault:
        raise InvalidInput("the body is no image that can be read; send a PNG or a JPEG") from fault


def _reduced(image: Image.Image) -> np.ndarray:
    shrink = min(1.0, WORKING_SIDE / max(image.size))
    size = [max(1, round(side * shrink)) for side in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32)


def _standing_out(colours: np.ndarray) -> np.ndarray:
    """Tell which pixels are unlike the border."""
    border = _border(colours)
    # An object may touch the border, so the colours least like the rest there are not held to be background.
    usual = _distance(border, border)
    background = border[usual <= np.quantile(usual, 0.75)]
    distance = np.sqrt(_distance(colours, background))
    return distance > max(_otsu(distance), LEAST_DISTANCE)


def _border(colours: np.ndarray) -> np.ndarray:
    rim = max(1, min(colours.shape[:2]) // 25)
    inner = np.zeros(colours.shape[:2], dtype=bool)
    inner[rim:-rim, rim:-rim] = True
    return colours[~inner]


def _distance(colours: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Give each pixel's squared Mahalanobis distance from the background's colours."""
    # The noise of a camera: without it a background of one colour has no inverse.
    spread = np.cov(background, rowvar=False) + np.eye(3) * 25
    away = colours - background.mean(axis=0)
    return np.einsum("...i,ij,...j->...", away, np.linalg.inv(spread), away)


def _otsu(values: np.ndarray) -> float:
    """Give the threshold that leaves the least variance within the two groups that it makes."""
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    low = counts.cumsum()
    high = low[-1] - low
    sums = (counts * middles).cumsum()
    split = (low > 0) & (high > 0)
    between = np.zeros(len(counts))
    between[split] = low[split] * high[split] * (sums[split] / low[split] - (sums[-1] - sums[split]) / high[split]) ** 2
    return float(edges[between.argmax() + 1])


def _tidied(mask: np.ndarray) -> np.ndarray:
    """Give the mask as 0 and 255, with its holes closed and its dust gone."""
    whole = ndimage.binary_fill_holes(ndimage.binary_closing(ndimage.binary_opening(mask), iterations=2))
    labels, count = ndimage.label(whole)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = sizes >= mask.size * LEAST_SHARE
    kept[0] = False
    return np.where(kept[labels], np.uint8(255), np.uint8(0))
