"""The Range header (RFC 9110, 14): one span of bytes; anything cleverer is answered by the whole object."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .refusals import UnsatisfiableRange

__all__ = ["Span", "span"]

_ONE_RANGE: Final = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")


class Span(NamedTuple):
    """Bytes from `start` up to but without `end`."""

    start: int
    end: int

    def content_range(self, size: int) -> bytes:
        """Give the Content-Range of this span of an object of `size` bytes."""
        return b"bytes %d-%d/%d" % (self.start, self.end - 1, size)


def span(header: bytes | None, size: int) -> Span | None:
    """Give the span of an object of `size` bytes that a Range header asks for, or None for all of it.

    Several ranges, another unit and unreadable ones are ignored, which the RFC allows.

    Raises:
        UnsatisfiableRange: the span begins behind the object's end.
    """
    found = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[1] == found[2] == b"":
        return None
    if not found[1]:
        last = int(found[2])
        if last == 0 or size == 0:
            raise UnsatisfiableRange(size)
        return Span(max(0, size - last), size)
    start = int(found[1])
    end = int(found[2]) + 1 if found[2] else size
    if found[2] and end <= start:
        return None
    if start >= size:
        raise UnsatisfiableRange(size)
    return Span(start, min(end, size))
