"""Telling other processes which runs changed, and hearing it from them: LISTEN and NOTIFY, gathered.

A notification is sent after the commit that it tells of, by a transaction of its own: sent within it, it would hold a
lock of the whole server through the commit's sync, and all gateways would commit one after the other. What is lost when
a process dies in between costs a waiter its early wake and nothing else: it asks again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any, Final

from penstock.errors import PenstockError, Unavailable

from .connection import Connections, connect

__all__ = ["Changes"]

_MOST_BYTES: Final = 7_900  # of a notification's text; PostgreSQL takes fewer than 8,000
_GATHER_S: Final = 0.01  # between two of them: what changes meanwhile is told together
_AGAIN_S: Final = 0.5
_PROVE_S: Final = 15.0  # a connection that only listens is asked now and then whether it is still there


class Changes:
    """The ids of changed runs, out and in."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._channel = f"penstock_{connections.place.schema}"
        self._untold: dict[str, None] = {}
        self._teller: asyncio.Task[None] | None = None

    # -------------------------------------------------------------- out

    def tell(self, run_ids: Iterable[str]) -> None:
        """Let other processes know: at once, or together with what else changes just after the last time."""
        self._untold.update(dict.fromkeys(run_ids))
        if self._untold and self._teller is None:
            self._teller = asyncio.create_task(self._tell_all(), name="ledger-notify")

    async def finish(self) -> None:
        """Return once everything was told."""
        if self._teller is not None:
            await asyncio.wait([self._teller])

    async def _tell_all(self) -> None:
        try:
            while self._untold:
                texts = list(_texts(self._untold))
                self._untold = {}
                await self._connections.ask(
                    "SELECT pg_notify($1, text) FROM unnest($2::text[]) text", self._channel, texts
                )
                await asyncio.sleep(_GATHER_S)
        except PenstockError:
            self._untold = {}  # nobody can be told; those who wait ask again by themselves
        finally:
            self._teller = None

    # -------------------------------------------------------------- in

    async def heard(self) -> AsyncGenerator[tuple[str, ...]]:
        """Give groups of ids, from any process, this one included; an empty one after a time in which some were missed."""
        while True:
            news: asyncio.Queue[tuple[str, ...] | None] = asyncio.Queue()
            try:
                connection = await self._listen(news)
            except Unavailable:
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                yield ()
                async for group in _until_lost(connection, news):
                    yield group
            finally:
                connection.terminate()

    async def _listen(self, news: asyncio.Queue[tuple[str, ...] | None]) -> Any:
        connection = await connect(self._connections.place)

        def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            news.put_nowait(tuple(str(payload).split()))

        def lose(_connection: object) -> None:
            news.put_nowait(None)

        connection.add_termination_listener(lose)
        try:
            await connection.add_listener(self._channel, hear)
        except OSError as error:
            connection.terminate()
            raise Unavailable(str(error)) from error
        return connection


async def _until_lost(connection: Any, news: asyncio.Queue[tuple[str, ...] | None]) -> AsyncGenerator[tuple[str, ...]]:
    while True:
        try:
            async with asyncio.timeout(_PROVE_S):
                group = await news.get()
        except TimeoutError:
            if not await _answers(connection):
                return
            continue
        if group is None:
            return
        yield group


async def _answers(connection: Any) -> bool:
    try:
        await connection.execute("SELECT 1", timeout=_PROVE_S)
    except Exception:  # noqa: BLE001  # whatever it is, it does not answer
        return False
    return True


def _texts(run_ids: Iterable[str]) -> Iterator[str]:
    """Give the ids as texts that fit into notifications."""
    text: list[str] = []
    size = 0
    for run_id in run_ids:
        length = len(run_id.encode()) + 1
        if size + length > _MOST_BYTES and text:
            yield " ".join(text)
            text, size = [], 0
        text.append(run_id)
        size += length
    if text:
        yield " ".join(text)
