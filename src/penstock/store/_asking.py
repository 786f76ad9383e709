"""Requests of our own to a bucket, for what obstore does not do: uploads in parts under a condition."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Final

import aiohttp
import msgspec
from multidict import CIMultiDictProxy
from yarl import URL

from penstock.errors import Unavailable

__all__ = ["Answer", "Asking"]

_SLICE: Final = 1 << 17
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
_NONE: Final[Mapping[str, str]] = {}


class Answer(msgspec.Struct, frozen=True):
    """What a server answered; header names are of any case."""

    status: int
    text: str
    headers: CIMultiDictProxy[str]


class Asking:
    """Connections to one server. `place` names it in messages."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._http: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Begin."""
        self._http = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False, trust_env=True)

    async def close(self) -> None:
        """Let go of connections; a second call does nothing."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def ask(
        self, method: str, url: str, body: bytes | bytearray = b"", headers: Mapping[str, str] = _NONE
    ) -> Answer:
        """Send a request once, and give the answer, whatever its status.

        Raises:
            Unavailable: there was none.
        """
        if self._http is None:
            raise Unavailable("the store is closed")
        sent = {"Content-Length": str(len(body)), **headers}
        try:
            async with self._http.request(
                method, URL(url, encoded=True), data=_slices(body), headers=sent, allow_redirects=False
            ) as answer:
                return Answer(answer.status, await answer.text(errors="replace"), answer.headers)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self._place} gave no answer: {error}") from error


async def _slices(data: bytes | bytearray) -> AsyncGenerator[memoryview, None]:
    """Give a body in pieces, so that a large one does not hold up the loop."""
    whole = memoryview(data)
    for start in range(0, len(data), _SLICE):
        yield whole[start : start + _SLICE]
