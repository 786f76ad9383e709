"""Writes digits that the model never saw as PNG files: `python examples/digits/samples.py FOLDER [COUNT]`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from data import held_out

__all__ = ["as_png", "write"]

ENLARGED = 16  # so that a person can see them too


def as_png(image: np.ndarray) -> bytes:
    """Give 8 x 8 pixels, from 0 to 16, as a PNG of 128 x 128: dark ink on white paper."""
    shades = (255 - image / 16 * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(shades).resize([side * ENLARGED for side in image.shape], Image.Resampling.NEAREST).save(
        file, "png"
    )
    return file.getvalue()


def write(folder: Path, count: int) -> list[Path]:
    """Write `count` images, named `{number}-is-{digit}.png`; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (image, digit) in enumerate(zip(*held_out(), strict=True)):
        if number == count:
            break
        paths.append(folder / f"{number:03}-is-{digit}.png")
        paths[-1].write_bytes(as_png(image))
    return paths


if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    print(*write(folder, count), sep="\n")
