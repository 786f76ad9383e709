"""An input as it is given on the command line, made into a body."""

from __future__ import annotations

import json
import mimetypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

__all__ = ["Body", "body_of", "parameters"]

_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"


class Body(NamedTuple):
    """The bytes to send and what they are."""

    data: bytes
    content_type: str


def body_of(data: str | None, given: dict[str, Any], *, content_type: str | None, rid: str | None) -> Body:
    """Give the body that `-d`, parameters and `--rid` describe together.

    `-d` is JSON itself, `@file`, or `-` for standard input. Parameters and the rid go into a JSON object, that of `-d`
    if there is one.
    """
    body = Body(b"{}", _JSON) if data is None else _read(data, content_type)
    if rid is not None:
        given = {**given, "_rid": rid}
    return _with(body, given) if given else body


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """Give the object that `--name value`, `--name=value` and `--flag` describe; values are JSON where they can be."""
    return dict(_parameters(words))


def _parameters(words: Sequence[str]) -> Iterator[tuple[str, Any]]:
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise click.UsageError(f"'{word}' stands alone: parameters are --NAME VALUE, other input is -d.")
        if equals:
            yield name, _value(value)
        elif rest and not rest[0].startswith("--"):
            yield name, _value(rest.pop(0))
        else:
            yield name, True


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read(data: str, content_type: str | None) -> Body:
    if data == "-":
        raw = sys.stdin.buffer.read()
        return Body(raw, content_type or (_JSON if _is_json(raw) else _OCTETS))
    if data.startswith("@"):
        return _of_file(Path(data[1:]), content_type)
    raw = data.encode()
    if content_type is None and not _is_json(raw):
        raise click.UsageError(
            "-d is not JSON. A file is -d @FILE, standard input is -d -, and any text can be sent with --content-type."
        )
    return Body(raw, content_type or _JSON)


def _of_file(path: Path, content_type: str | None) -> Body:
    try:
        return Body(path.read_bytes(), content_type or mimetypes.guess_type(path.name)[0] or _OCTETS)
    except OSError as error:
        raise click.UsageError(f"{path} can't be read: {error.strerror}.") from error


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def _with(body: Body, given: dict[str, Any]) -> Body:
    try:
        present = json.loads(body.data)
    except ValueError:
        present = None
    if not isinstance(present, dict):
        raise click.UsageError("Parameters and --rid go into a JSON object, and -d is none.")
    return Body(json.dumps({**present, **given}, ensure_ascii=False).encode(), body.content_type)
