"""The gateway as one ASGI application: finds the endpoint, asks the gate, calls the handler, sends its reply."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from penstock.errors import PenstockError

from . import problem
from .asgi import App, HeaderPair, Receive, Scope, Send
from .auth import Gate, OpenGate
from .body import discard
from .call import Call
from .endpoint import Endpoint
from .hangup import HungUp, until, while_connected
from .meters import NOWHERE, Meters
from .pins import pinned
from .reply import Reply
from .router import Router
from .routes import ENDPOINTS
from .services import Services

__all__ = ["Gateway", "build"]

log: Final = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")
_NOSNIFF: Final[HeaderPair] = (b"x-content-type-options", b"nosniff")
_CLOSE: Final[HeaderPair] = (b"connection", b"close")
_BODILESS: Final = frozenset({204, 304})


def build(services: Services, gate: Gate | None = None, endpoints: Sequence[Endpoint] = ENDPOINTS) -> App:
    """Give the gateway as an ASGI application. Without a `gate` authentication is off: serve loopback only."""
    return Gateway(services, gate or OpenGate(services.keyring), endpoints)


class Gateway:
    """One gateway. It holds no state of its own, so any number may serve one ledger."""

    def __init__(self, services: Services, gate: Gate, endpoints: Sequence[Endpoint]) -> None:
        self._services = services
        self._gate = gate
        self._router = Router(pinned(endpoint) if endpoint.pinned else endpoint for endpoint in endpoints)
        self._meters = Meters(services.registry, [(one.method, one.path) for one in endpoints])
        # Ids of requests need not be secret, only told apart: a counter costs nothing.
        self._minted = 0
        self._mint_prefix = services.ids.run()[-12:].encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (or take note of the server's start and end)."""
        if scope["type"] == "http":
            await self._serve(Call(scope, receive, self._services, self._meters), send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            raise ValueError(f"a gateway serves HTTP, not {scope['type']}")

    async def _serve(self, call: Call, send: Send) -> None:
        began = self._services.clock.monotonic()
        call.request_id = self._request_id(call)
        at = NOWHERE
        try:
            endpoint, call.params = self._router.find(call.method, call.path)
            at = (endpoint.method, endpoint.path)
            await self._gate.admit(call, endpoint)
            reply = await endpoint.handler(call)
        except HungUp:
            return
        except Exception as error:  # noqa: BLE001  # whatever broke, it is answered
            reply = self._refusal(call, error)
        await _send(call, reply, send)
        self._meters.served(*at, reply.status, self._services.clock.monotonic() - began)

    def _refusal(self, call: Call, error: Exception) -> Reply:
        if isinstance(error, PenstockError) and error.status != problem.OURS:
            self._meters.refused(error.code)
            return problem.from_error(error, call.request_id)
        # A bug, or a setting that is wrong: its text is for the operator's eyes.
        log.error(
            "request failed",
            exc_info=error,
            extra={"request_id": call.request_id.decode("latin-1"), "path": call.path},
        )
        self._meters.refused("INTERNAL")
        return problem.unforeseen(call.request_id)

    def _request_id(self, call: Call) -> bytes:
        given = call.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        self._minted += 1
        return b"%s-%x" % (self._mint_prefix, self._minted)


async def _send(call: Call, reply: Reply, send: Send) -> None:
    body = reply.body
    headers = [*reply.headers, (b"x-request-id", call.request_id), _NOSNIFF]
    if reply.close:
        headers.append(_CLOSE)
    if not isinstance(body, bytes):
        await _stream(call, reply, headers, body, send)
        return
    if reply.status not in _BODILESS:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.close and b"expect" not in call.headers:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await discard(call.receive)
        body = b""
    await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else body})


async def _stream(call: Call, reply: Reply, headers: list[HeaderPair], body: AsyncGenerator[bytes], send: Send) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if call.method != "HEAD":
        pump = _pump(body, send)
        try:
            await while_connected(call.receive, until(call.services.closing, pump) if reply.live else pump)
        except HungUp:
            return
        except Exception:
            # The status is sent, so all that is left is to end the connection before the body is complete.
            log.exception("a reply broke off", extra={"request_id": call.request_id.decode("latin-1")})
            raise
    await send({"type": "http.response.body", "body": b""})


async def _pump(body: AsyncGenerator[bytes], send: Send) -> None:
    async with aclosing(body) as chunks:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _live(receive: Receive, send: Send) -> None:
    """Answer the server's questions about start and end: the wiring opens and closes the services, not the gateway."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
