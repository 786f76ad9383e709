"""A result on its way to a person, a pipe or a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from .session import say

__all__ = ["out_option", "write_result"]

_TEXTUAL: Final = ("text/", "application/json", "application/yaml", "application/xml")


def out_option(function: Any) -> Any:
    """Declare `--out`."""
    return click.option(
        "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the result to this file."
    )(function)


def write_result(data: bytes, content_type: str, out: Path | None = None) -> None:
    """Write a result as it is: to `out`, or to standard output.

    For people, on a terminal, JSON is indented; what is no text is not poured over them.
    """
    if out is not None:
        out.write_bytes(data)
        say(f"{_size(len(data))} of {content_type} written to {out}")
    elif not sys.stdout.isatty():
        click.echo(data, nl=_is_text(content_type) and not data.endswith(b"\n"))
    elif _is_json(content_type):
        click.echo(_indented(data))
    elif _is_text(content_type):
        click.echo(data.decode(errors="replace"))
    else:
        say(f"The result is {_size(len(data))} of {content_type}; write it with --out FILE, or pipe it on.")


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(content_type: str) -> bool:
    kind = _kind(content_type)
    return kind == "application/json" or kind.endswith("+json")


def _is_text(content_type: str) -> bool:
    return _is_json(content_type) or _kind(content_type).startswith(_TEXTUAL)


def _indented(data: bytes) -> str:
    import msgspec

    try:
        return msgspec.json.format(data, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data.decode(errors="replace")


def _size(count: int) -> str:
    """Give a number of bytes as people read it."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
