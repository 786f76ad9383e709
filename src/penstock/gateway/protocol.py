"""uvicorn's HTTP protocol with two things mended: a bound on headers, and refusals that are problem documents.

Start the server with `http=penstock.gateway.protocol.Protocol`.
"""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from penstock.errors import Malformed, PenstockError

from . import problem
from .refusals import HeadTooLarge

__all__ = ["HEAD_MAX_BYTES", "Protocol"]

HEAD_MAX_BYTES: Final = 64 * 1024


class Protocol(HttpToolsProtocol):
    """One connection. Its parser keeps a head of any length, so the bytes of an unfinished one are counted here."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._mixed = False  # these bytes are of several messages, and the parser does not tell where one ends

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        self._mixed = False
        super().data_received(data)
        if self._in_head and not self._mixed:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES and not self.transport.is_closing():
                self._refuse(HeadTooLarge(f"the request line and headers may have {HEAD_MAX_BYTES} bytes"))

    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Be ready for the next head."""
        self._head_bytes = 0
        self._mixed = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(Malformed(msg))

    def _refuse(self, error: PenstockError) -> None:
        reply = problem.from_error(error, b"")
        assert isinstance(reply.body, bytes)
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
        lines = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.transport.write(STATUS_LINE[reply.status] + lines + b"\r\n" + reply.body)
        self.transport.close()
