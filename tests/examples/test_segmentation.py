"""The segmentation finds what stands out: on drawn scenes whose truth is known, and on a photograph."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from penstock import InvalidInput
from segmentation import Segmentation


def packed(pixels, form="png"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def mask_of(answer):
    assert answer.content_type == "image/png"
    mask = np.asarray(Image.open(io.BytesIO(answer.body)))
    assert set(np.unique(mask)) <= {0, 255}
    return mask > 0


def scene(seed):
    """Two objects on a noisy ground, and the truth about them."""
    rng = np.random.default_rng(seed)
    picture, truth = Image.new("RGB", (400, 300), (90, 120, 80)), Image.new("L", (400, 300))
    left, top = rng.integers(30, 120, 2).tolist()
    for sheet, round_colour, square_colour in ((picture, (200, 60, 50), (60, 60, 190)), (truth, 255, 255)):
        draw = ImageDraw.Draw(sheet)
        draw.ellipse((left, top, left + 150, top + 120), fill=round_colour)
        draw.rectangle((300, 200, 350, 260), fill=square_colour)
    noisy = np.asarray(picture) + rng.normal(0, 15, (300, 400, 3))
    return noisy.clip(0, 255).astype(np.uint8), np.asarray(truth) > 0


@pytest.mark.parametrize("seed", range(5))
def test_objects_of_two_colours_are_found_to_the_pixel(seed):
    pixels, truth = scene(seed)
    (answer,) = Segmentation().predict([packed(pixels)])
    mask = mask_of(answer)
    assert (mask & truth).sum() / (mask | truth).sum() >= 0.97


def test_the_flower_of_a_photograph_is_found():
    photograph = load_sample_image("flower.jpg")
    (answer,) = Segmentation().predict([packed(photograph, "jpeg")])
    mask = mask_of(answer)
    assert mask.shape == photograph.shape[:2]
    assert mask[130:310, 220:400].mean() >= 0.99  # the bloom
    assert mask[:80].mean() <= 0.01  # the leaves above it
    assert 0.15 <= mask.mean() <= 0.30


def test_a_large_image_gets_a_mask_of_its_own_size():
    pixels, truth = scene(1)
    (answer,) = Segmentation().predict([packed(pixels.repeat(4, axis=0).repeat(4, axis=1))])
    mask = mask_of(answer)
    assert mask.shape == (1200, 1600)
    assert (mask & truth.repeat(4, axis=0).repeat(4, axis=1)).sum() / truth.sum() / 16 >= 0.95


@pytest.mark.parametrize("noise", [0, 6])
def test_an_even_image_has_nothing_on_it(noise):
    shades = 90 + np.random.default_rng(4).normal(0, noise, (60, 50, 3))
    (answer,) = Segmentation().predict([packed(shades.astype(np.uint8))])
    assert not mask_of(answer).any()


@pytest.mark.parametrize(
    "given",
    [b"", b"no picture", {"image": "abc"}, packed(np.zeros((4, 4, 3), np.uint8))],
    ids=["empty", "text", "json", "tiny"],
)
def test_a_bad_image_fails_alone(given):
    pixels, _ = scene(2)
    first, bad, last = Segmentation().predict([packed(pixels), given, packed(pixels)])
    assert isinstance(bad, InvalidInput)
    assert first.body == last.body
    assert mask_of(first).any()
