"""What a worker said before it ended, as a person would repeat it."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["last_words"]

_MOST: Final = 5
_SMALL_TALK: Final = frozenset({"debug", "info"})


class _Line(msgspec.Struct):
    """As much of a worker's log line as matters here; the worker writes one JSON object a line."""

    event: str
    level: str = "info"
    detail: str = ""


_decode: Final = msgspec.json.Decoder(_Line).decode


def last_words(log: str) -> str:
    """Give the end of a worker's log without its small talk: what it warned of, and what its handler printed.

    A handler's own lines, an interpreter's traceback above all, are no JSON and stay as they are.
    """
    return "\n".join([words for line in log.splitlines() if (words := _words(line))][-_MOST:])


def _words(line: str) -> str:
    try:
        said = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line.rstrip()
    if said.level in _SMALL_TALK:
        return ""
    return f"{said.event}: {said.detail}" if said.detail else said.event
