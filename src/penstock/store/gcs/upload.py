"""A resumable upload, which may carry a precondition, as a multipart upload of Google's may not.

https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from penstock.store._asking import Answer

__all__ = ["Ask", "Begin", "Resumable"]

# Sends a request to a session: verb, URL, body, headers. Whatever is refused is raised.
Ask: TypeAlias = Callable[[str, str, bytes | bytearray, Mapping[str, str]], Awaitable[Answer]]
# Starts a session; gives its URL, which needs no further signature.
Begin: TypeAlias = Callable[[], Awaitable[str]]


_UNIT: Final = 256 << 10


class Resumable:
    """One upload of one object. A part that is no multiple of 256 KiB can only be the last, and is sent as such."""

    def __init__(self, begin: Begin, ask: Ask) -> None:
        self._begin = begin
        self._ask = ask
        self._session = ""
        self._sent = 0
        self._last: bytes | bytearray = b""

    async def begin(self) -> None:
        """Start a session, if the condition holds so far."""
        self._session = await self._begin()

    async def part(self, data: bytes | bytearray) -> None:
        """Send the next part, or keep the last one for the end."""
        if len(data) % _UNIT:
            self._last = data
            return
        until = self._sent + len(data)
        await self._put(f"bytes {self._sent}-{until - 1}/*", data)
        self._sent = until

    async def finish(self) -> str:
        """Send the last part, or say that it was sent; the object is there if the condition holds."""
        total = self._sent + len(self._last)
        span = f"{self._sent}-{total - 1}" if self._last else "*"
        answer = await self._put(f"bytes {span}/{total}", self._last)
        return answer.headers.get("ETag", "")

    async def abort(self) -> None:
        """Forget the parts."""
        self._last = b""
        if self._session:
            await self._ask("DELETE", self._session, b"", {})

    async def _put(self, span: str, data: bytes | bytearray) -> Answer:
        return await self._ask("PUT", self._session, data, {"Content-Range": span})
