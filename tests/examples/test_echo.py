"""The echo gives back what it got."""

from echo import Echo


def test_what_goes_in_comes_out_byte_for_byte():
    echo = Echo()
    bodies = [(b'{"a":  1}', "application/json"), (b"\x00raw", "image/x-own"), (b"", "text/plain")]
    answers = [echo.encode(output) for output in echo.predict([echo.decode(*body) for body in bodies])]
    assert [(answer.body, answer.content_type) for answer in answers] == bodies
