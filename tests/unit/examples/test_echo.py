"""The echo gives back what it got, in order."""

from echo import Echo


def test_what_goes_in_comes_out():
    batch = [{"a": 1}, b"\x00raw", {"nested": {"list": [1, None, "x"]}}]
    assert Echo().predict(batch) == batch
