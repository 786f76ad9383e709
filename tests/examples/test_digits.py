"""The digit classifier reads images that it never saw, however they come."""

import io

import numpy as np
import pytest
from PIL import Image

import digits
import samples
import train
from data import held_out
from penstock import InvalidInput

pytestmark = pytest.mark.xdist_group("digits")  # so that the model is trained once


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "digits.npz"
    return path, train.train(path)


@pytest.fixture(scope="module")
def reader(trained):
    handler = digits.Digits()
    handler.model = trained[0]
    handler.load()
    return handler


def right(answers, truth):
    return np.mean([answer["digit"] == digit for answer, digit in zip(answers, truth, strict=True)])


def enlarged(image, *, inverted):
    """A photograph's conditions: 200 pixels high, smoothed, off the centre, on a wide sheet."""
    digit = Image.fromarray((image / 16 * 255).astype(np.uint8)).resize((200, 200), Image.Resampling.BICUBIC)
    sheet = Image.new("L", (420, 260), 0)
    sheet.paste(digit, (70, 25))
    shades = 255 - np.asarray(sheet) if inverted else np.asarray(sheet)
    file = io.BytesIO()
    Image.fromarray(shades).save(file, "png")
    return file.getvalue()


def test_training_says_how_well_it_did(trained):
    _, accuracy = trained
    assert accuracy >= 0.97


def test_pixels_of_unseen_digits_are_read(reader):
    images, truth = held_out()
    answers = reader.predict([{"pixels": image.tolist()} for image in images])
    assert right(answers, truth) >= 0.97
    assert all(0 < answer["confidence"] <= 1 for answer in answers)


def test_pictures_of_unseen_digits_are_read(reader):
    images, truth = held_out()
    assert right(reader.predict([samples.as_png(image) for image in images]), truth) >= 0.95


@pytest.mark.parametrize("inverted", [False, True], ids=["white-on-black", "black-on-white"])
def test_a_digit_is_found_anywhere_on_its_sheet(reader, inverted):
    images, truth = (part[::3] for part in held_out())
    assert right(reader.predict([enlarged(image, inverted=inverted) for image in images]), truth) >= 0.95


def test_a_doubtful_digit_is_less_sure_than_a_clear_one(reader):
    image = held_out()[0][0]
    noise = np.random.default_rng(3).uniform(0, 16, (8, 8))
    clear, doubtful = reader.predict([{"pixels": image.tolist()}, {"pixels": noise.tolist()}])
    assert doubtful["confidence"] < clear["confidence"]


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        {},
        [[0] * 8] * 8,
        None,
        {"pixels": "eight"},
        {"pixels": [[1, 2], [3]]},
        {"pixels": [[0] * 8] * 7},
        {"pixels": [[float("nan")] * 8] * 8},
        samples.as_png(np.zeros((8, 8))),
    ],
    ids=["empty", "text", "truncated", "no-pixels", "list", "null", "word", "ragged", "seven-rows", "nan", "blank"],
)
def test_a_bad_image_fails_alone(reader, given):
    good = samples.as_png(held_out()[0][0])
    first, bad, last = reader.predict([good, given, good])
    assert isinstance(bad, InvalidInput)
    assert first == last
    assert first["digit"] == held_out()[1][0]


def test_a_huge_image_is_refused_before_it_is_unpacked(reader):
    file = io.BytesIO()
    Image.new("1", (8000, 4000)).save(file, "png")
    (answer,) = reader.predict([file.getvalue()])
    assert isinstance(answer, InvalidInput)
    assert "16,000,000" in str(answer)


def test_a_missing_model_says_how_to_train_one(tmp_path):
    handler = digits.Digits()
    handler.model = tmp_path / "digits.npz"
    with pytest.raises(FileNotFoundError, match=r"python .*train\.py"):
        handler.load()


def test_samples_are_real_pictures_named_by_their_digit(tmp_path, reader):
    paths = samples.write(tmp_path / "samples", 20)
    answers = reader.predict([path.read_bytes() for path in paths])
    assert len({path.name for path in paths}) == 20
    assert right(answers, [int(path.stem[-1]) for path in paths]) >= 0.9
