"""A wire between a client and a server that a test can cut: before a request arrives, or after it and before its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from penstock.testing.process import HOST

__all__ = ["Wire"]

_CHUNK = 1 << 16


class Wire:
    """A TCP proxy on a port of its own.

    Attributes:
        replies_to_cut: so many replies are thrown away, each with its connection, once the server has begun to answer.
        requests_to_cut: so many requests are thrown away, each with its connection, before the server sees them.
        port: where clients find the wire.
    """

    def __init__(self, server_port: int, edit: Callable[[bytes], bytes] = bytes) -> None:
        """Take the server's port, and what is done to the bytes on their way to it."""
        self.replies_to_cut = 0
        self.requests_to_cut = 0
        self.port = 0
        self._server_port = server_port
        self._edit = edit
        self._listener: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._link, HOST, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        self.cut()
        if self._links:
            await asyncio.wait(self._links)

    def cut(self) -> None:
        """Cut every connection that there is."""
        for link in self._links:
            link.cancel()

    async def _link(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        writers = [to_client]
        try:
            server, to_server = await asyncio.open_connection(HOST, self._server_port)
            writers.append(to_server)
            flows = [
                asyncio.create_task(self._flow(client, to_server, asks=True)),
                asyncio.create_task(self._flow(server, to_client, asks=False)),
            ]
            try:
                await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for flow in flows:
                    flow.cancel()
                await asyncio.gather(*flows, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            return  # the server is away, or the wire is cut
        finally:
            self._links.discard(link)
            for writer in writers:
                writer.transport.abort()

    async def _flow(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, asks: bool) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                if asks and self.requests_to_cut:
                    self.requests_to_cut -= 1
                    return
                if not asks and self.replies_to_cut:
                    self.replies_to_cut -= 1
                    return
                target.write(self._edit(data) if asks else data)
                await target.drain()
