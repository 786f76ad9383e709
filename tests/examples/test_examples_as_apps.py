"""Each example as its YAML describes it, run by the harness that users have for their own tests."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import digits
import samples
import train
from data import held_out
from penstock.manifest import parse, resolve
from penstock.testing.harness import HandlerHarness

EXAMPLES = Path(__file__).parents[2] / "examples"


def app_of(name):
    path = EXAMPLES / name / "app.yaml"
    (app,) = parse(path.read_text(), source=str(path))
    return resolve(app, str(path.parent))


def test_every_example_has_a_spec_and_is_listed():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*/app.yaml"):
        name = path.parent.name
        assert app_of(name).name == name
        assert f"[`{name}`]({name}/)" in listed


def test_the_echo_answers():
    with HandlerHarness(app_of("echo")) as echo:
        json, raw = echo.predict({"a": [1, None]}, b"\x00\xff")
    assert json.json == {"a": [1, None]}
    assert (raw.body, raw.content_type) == (b"\x00\xff", "application/octet-stream")


@pytest.fixture
def trained(tmp_path, monkeypatch):
    model = tmp_path / "digits.npz"
    train.train(model)
    monkeypatch.setattr(digits.Digits, "model", model)


@pytest.mark.xdist_group("digits")
@pytest.mark.usefixtures("trained")
def test_digits_are_read_in_micro_batches_and_a_bad_one_fails_alone():
    images, truth = held_out()
    inputs = [samples.as_png(image) for image in images[:40]]
    with HandlerHarness(app_of("digits")) as reader:
        results = reader.predict(*inputs[:20], b"no picture", *inputs[20:])
    bad = results.pop(20)
    assert (bad.outcome, bad.reason) == ("failed", "INVALID_INPUT")
    assert "PNG" in bad.message
    assert np.mean([result.json["digit"] == digit for result, digit in zip(results, truth, strict=False)]) >= 0.9


def test_a_mask_comes_as_a_picture():
    sheet = np.full((80, 120, 3), 40, np.uint8)
    sheet[20:60, 30:90] = (220, 120, 60)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "png")
    with HandlerHarness(app_of("segmentation")) as segmentation:
        good, bad = segmentation.predict(file.getvalue(), {"not": "a picture"})
    assert good.content_type == "image/png"
    mask = np.asarray(Image.open(io.BytesIO(good.body))) > 0
    assert mask[22:58, 32:88].all()
    assert not mask[:15].any()
    assert bad.reason == "INVALID_INPUT"
