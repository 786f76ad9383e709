"""The worker's side of the broker's HTTP, and of the signed URLs that it hands out."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Final, Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

from penstock.errors import Conflict, Forbidden, Gone, Invalid, NotFound, PenstockError, Unauthenticated, Unavailable
from penstock.model.wire import (
    MSGPACK,
    CheckpointReply,
    CheckpointRequest,
    ExitReply,
    ExitRequest,
    ExtendReply,
    ExtendRequest,
    LeaseReply,
    LeaseRequest,
    SettleReply,
    SettleRequest,
    UrlsReply,
    UrlsRequest,
)

__all__ = ["DISMISSED", "Broker"]

ReplyT = TypeVar("ReplyT")

DISMISSED: Final = (Unauthenticated, Forbidden, Gone)
"""What the broker answers a worker that it no longer knows."""

ANSWER_S: Final = 15.0  # seconds for the broker's own work, beyond the wait that was asked for
TRANSFER: Final = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=60.0)
NOT_MADE_UP: Final = ("Content-Type", "Accept-Encoding")  # a signature may cover them, and bytes are kept as sent
KEEP_ALIVE_S: Final = 75.0  # longer than a heartbeat's interval, so it finds a connection open

_encode: Final = msgspec.msgpack.Encoder().encode
_lease: Final = msgspec.msgpack.Decoder(LeaseReply)
_settle: Final = msgspec.msgpack.Decoder(SettleReply)
_extend: Final = msgspec.msgpack.Decoder(ExtendReply)
_checkpoint: Final = msgspec.msgpack.Decoder(CheckpointReply)
_urls: Final = msgspec.msgpack.Decoder(UrlsReply)
_exit: Final = msgspec.msgpack.Decoder(ExitReply)


class Broker:
    """Calls the broker, with one session for all calls. Open and close it as an async context manager.

    Every method raises `Unavailable` when a later try may work, one of `DISMISSED` when this worker is no longer
    known, and `Invalid` when the call itself is refused for good. Nothing is retried here.
    """

    def __init__(self, api: str, token: str, *, renewed: Callable[[str], None] = lambda _: None) -> None:
        self._token = token
        self._renewed = renewed
        base = URL(api.rstrip("/") + "/internal/v1")
        self._routes = {
            name: base / name for name in ("lease", "settle", "extend", "checkpoint", "urls", "exit", "replica-died")
        }
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=TRANSFER, auto_decompress=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def lease(self, request: LeaseRequest) -> LeaseReply:
        """Ask for work, waiting up to `request.wait_s` seconds for the first."""
        return await self._call("lease", request, _lease, request.wait_s)

    async def settle(self, request: SettleRequest) -> SettleReply:
        """Report attempts that ended and, with `want`, ask for the next work in the same round trip."""
        return await self._call("settle", request, _settle, request.want.wait_s if request.want else 0.0)

    async def extend(self, request: ExtendRequest) -> ExtendReply:
        """Send a heartbeat; a fresh token in its answer is used from then on, and told to `renewed`."""
        reply = await self._call("extend", request, _extend)
        if reply.token:
            self._token = reply.token
            self._renewed(reply.token)
        return reply

    async def checkpoint(self, request: CheckpointRequest) -> CheckpointReply:
        """Save a checkpoint of a live attempt."""
        return await self._call("checkpoint", request, _checkpoint)

    async def urls(self, request: UrlsRequest) -> UrlsReply:
        """Get fresh signed URLs for a live attempt."""
        return await self._call("urls", request, _urls)

    async def exit(self, request: ExitRequest) -> ExitReply:
        """Ask for leave."""
        return await self._call("exit", request, _exit)

    async def fetch(self, url: str) -> bytes:
        """Give the bytes behind a signed URL.

        Raises:
            NotFound: there is no such object.
            Forbidden: the URL is no longer valid.
            Unavailable: the store can't be reached, or failed.
        """
        return await self._send("GET", URL(url, encoded=True), None, {}, TRANSFER)

    async def store(self, url: str, headers: Mapping[str, str], data: bytes) -> None:
        """Put bytes behind a signed URL.

        Raises:
            Conflict: there is an object already, and the URL only creates.
            Forbidden: the URL is no longer valid.
            Unavailable: the store can't be reached, or failed.
        """
        await self._send("PUT", URL(url, encoded=True), data, headers, TRANSFER)

    async def _call(
        self, route: str, request: msgspec.Struct, decoder: msgspec.msgpack.Decoder[ReplyT], wait_s: float = 0.0
    ) -> ReplyT:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": MSGPACK, "Accept": MSGPACK}
        timeout = aiohttp.ClientTimeout(total=wait_s + ANSWER_S)
        try:
            return decoder.decode(await self._send("POST", self._routes[route], _encode(request), headers, timeout))
        except NotFound as error:  # something else answers at this address just now
            raise Unavailable(error.detail) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"the answer to /{route} is not the broker's") from error

    async def _send(
        self, method: str, url: URL, data: bytes | None, headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("the broker's session is not open: use `async with`")
        try:
            async with self._session.request(
                method, url, data=data, headers=headers, timeout=timeout, skip_auto_headers=NOT_MADE_UP
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
            raise Unavailable(f"{method} {url.path}: {type(error).__name__}") from error
        if answer.status >= 300:
            raise _refusal(answer.status, f"{method} {url.path} answered {answer.status}")
        return body


def _refusal(status: int, detail: str) -> PenstockError:
    """Give the error that a status stands for; the detail never holds the answer's text or the URL's query."""
    kinds: dict[int, type[PenstockError]] = {
        401: Unauthenticated,
        403: Forbidden,
        404: NotFound,
        409: Conflict,
        410: Gone,
        412: Conflict,
    }
    if status in kinds:
        return kinds[status](detail)
    return Unavailable(detail) if status >= 500 or status in {408, 425, 429} else Invalid(detail)
