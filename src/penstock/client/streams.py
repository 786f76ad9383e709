"""Answers that come bit by bit: server-sent events, and lines of text."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import msgspec

__all__ = ["ServerEvent", "lines", "server_events"]

_LONGEST_LINE: Final = 16 * 1024 * 1024


class ServerEvent(msgspec.Struct, frozen=True):
    """One event of a stream (HTML Living Standard, 9.2)."""

    id: str = ""
    type: str = "message"
    data: str = ""


async def lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Give the lines of a UTF-8 text, without their ends."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
        if len(rest) > _LONGEST_LINE:
            raise ValueError("a line of the stream has no end")
    if rest:
        yield rest.decode(errors="replace")


async def server_events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[ServerEvent]:
    """Give the events of a stream; comments are passed over, and so is an event that broke off."""
    fields: dict[str, str] = {}
    async for line in lines(chunks):
        if not line:
            if "data" in fields:
                yield ServerEvent(fields.get("id", ""), fields.get("event", "message"), fields["data"])
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in fields:
            value = f"{fields['data']}\n{value}"
        if name:
            fields[name] = value
