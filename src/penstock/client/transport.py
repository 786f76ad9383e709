"""Requests over HTTP: sent, repeated where that is safe, and answered by bytes or by an error of ours."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from penstock._version import __version__
from penstock.errors import Invalid, PenstockError, Unavailable
from penstock.model.ids import Randomness

from .failures import Unreachable, from_response
from .patience import Patience

__all__ = ["Request", "Response", "Transport"]

T = TypeVar("T")

_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 30.0
_SILENCE_S: Final = 60.0  # a live stream says something every 15 s
_ASK_FIRST: Final = 1024 * 1024  # a larger body is sent once the server has agreed to read it
_TRY_LATER: Final = frozenset({429, 502, 503, 504})


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `wait_s` is how long the server was asked to wait; `repeatable` that twice does no more than once."""

    method: str
    path: str
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: bytes | None = None
    wait_s: float = 0.0
    repeatable: bool = True


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, unpacked; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """Give the JSON body as a record."""
        return msgspec.json.decode(self.body, type=kind)


class Transport:
    """Connections to one server. `api` is its base URL; the credential goes with each request."""

    def __init__(
        self,
        api: str,
        *,
        credentials: Mapping[str, str],
        patience: Patience,
        connections: int = 100,
        random: Randomness = os.urandom,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if not api.startswith(("http://", "https://")):
            raise Invalid(f"{api!r} is no server's address: it begins with http:// or https://")
        self.api = api.rstrip("/")
        self._headers = {"User-Agent": f"penstock/{__version__}", **credentials}
        self._patience = patience
        self._connections = connections
        self._random = random
        self._sleep = sleep
        self._opened: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        if self._opened is not None:
            session, self._opened = self._opened, None
            await session.close()

    async def send(self, request: Request) -> Response:
        """Give the answer to a request, whatever its status below 400.

        Raises `PenstockError`: the server's refusal as the class of error it raised, `Unreachable` or `Unavailable`.
        """
        failed = 0
        while True:
            try:
                return await self._once(request)
            except PenstockError as error:
                failed += 1
                heed = getattr(error, "retry_after", None)
                pause = self._patience.pause(failed, heed, self._random) if _again(request, error) else None
                if pause is None:
                    raise
            await self._sleep(pause)

    def pause(self, failed: int) -> float | None:
        """Give the seconds to wait before a stream that broke is taken up again, or None to give up."""
        return self._patience.pause(failed, None, self._random)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[aiohttp.StreamReader]:
        """Give the body of an answer as it comes. Raises as `send`, but does not repeat."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
        async with self._translated(), self._request(request, timeout) as answer:
            if answer.status >= 400:
                raise _refusal(answer, await answer.read())
            yield answer.content

    async def _once(self, request: Request) -> Response:
        timeout = aiohttp.ClientTimeout(total=request.wait_s + _ANSWER_S, sock_connect=_CONNECT_S)
        async with self._translated(), self._request(request, timeout) as answer:
            body = await answer.read()
            if answer.status >= 400:
                raise _refusal(answer, body)
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Response(status=answer.status, headers=headers, body=body)

    def _request(self, request: Request, timeout: aiohttp.ClientTimeout) -> Any:
        if self._opened is None:
            connector = aiohttp.TCPConnector(limit=self._connections)
            self._opened = aiohttp.ClientSession(headers=self._headers, connector=connector)
        body = request.body
        large = body is not None and len(body) > _ASK_FIRST
        return self._opened.request(
            request.method,
            URL(self.api + request.path, encoded=True),
            params=request.query,
            headers=request.headers,
            data=io.BytesIO(body) if body is not None and large else body,  # sent piece by piece
            expect100=large,
            timeout=timeout,
            allow_redirects=False,
        )

    @asynccontextmanager
    async def _translated(self) -> AsyncGenerator[None]:
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(
                f"nothing answers at {self.api}: start it with `penstock up`, or give the address of one that runs"
            ) from error
        except TimeoutError as error:
            raise Unavailable(f"{self.api} did not answer in time") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"the connection to {self.api} broke: {error}") from error


def _refusal(answer: aiohttp.ClientResponse, body: bytes) -> PenstockError:
    heed = answer.headers.get("Retry-After", "")
    retry_after = float(heed) if heed.isascii() and heed.isdigit() else None
    error = from_response(answer.status, answer.headers.get("Content-Type", ""), body, retry_after)
    if retry_after is not None:
        error.__dict__["retry_after"] = retry_after
    return error


def _again(request: Request, error: PenstockError) -> bool:
    """Tell whether to repeat: what never left this machine was not received, so it always may be."""
    ours = isinstance(error, Unavailable) or (error.retryable and error.status in _TRY_LATER)
    return ours and (request.repeatable or isinstance(error, Unreachable))
