"""What is given on the command line becomes the body that one would expect."""

import json

import pytest
from click import UsageError

from penstock.cli.inputs import body_of, parameters


def body(data=None, given=None, content_type=None, rid=None):
    return body_of(data, given or {}, content_type=content_type, rid=rid)


def test_parameters_are_json_where_they_can_be():
    words = [
        "--n",
        "3",
        "--ratio=0.5",
        "--name",
        "Ada",
        "--on",
        "true",
        "--tags",
        '["a"]',
        "--flag",
        "--debt",
        "-1",
        "--last",
    ]
    assert parameters(words) == {
        "n": 3,
        "ratio": 0.5,
        "name": "Ada",
        "on": True,
        "tags": ["a"],
        "flag": True,
        "debt": -1,
        "last": True,
    }


@pytest.mark.parametrize("words", [["n"], ["--"], ["-n", "3"], ["--n", "3", "4"]])
def test_words_that_are_no_parameters(words):
    with pytest.raises(UsageError, match="stands alone"):
        parameters(words)


def test_json_is_sent_as_it_is():
    assert body('{"x": 1.50}') == (b'{"x": 1.50}', "application/json")
    assert body("[1]") == (b"[1]", "application/json")


def test_text_that_is_no_json_needs_a_word_that_it_is_meant():
    with pytest.raises(UsageError, match="is not JSON"):
        body("hello")
    assert body("hello", content_type="text/plain") == (b"hello", "text/plain")


def test_files_are_what_their_name_says(tmp_path):
    for name, kind in {"a.png": "image/png", "a.json": "application/json", "a": "application/octet-stream"}.items():
        (tmp_path / name).write_bytes(b"\x00")
        assert body(f"@{tmp_path / name}") == (b"\x00", kind)
        assert body(f"@{tmp_path / name}", content_type="x/y") == (b"\x00", "x/y")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        body(f"@{tmp_path / 'nothing'}")


def test_nothing_at_all_is_an_empty_object():
    assert body() == (b"{}", "application/json")


def test_parameters_and_the_rid_join_the_object():
    joined = body('{"x": 1, "y": 2}', {"y": 3}, rid="mine")
    assert json.loads(joined.data) == {"x": 1, "y": 3, "_rid": "mine"}


@pytest.mark.parametrize("data", ["[1]", "3", '"text"'])
def test_parameters_need_an_object(data):
    with pytest.raises(UsageError, match="go into a JSON object"):
        body(data, {"x": 1})
