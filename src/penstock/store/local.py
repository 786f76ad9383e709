"""Objects as plain files in a folder (`file:///abs/dir`): a key is the path beneath it.

A key that is another key's folder (`a` beside `a/b`) is refused as `Invalid`: a file system can't hold both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from penstock.errors import Misconfigured, Unavailable
from penstock.model.ids import Clock

from ._disk import Disk
from .driver import ALWAYS, Features, Info, Put, SignedUrl

__all__ = ["LocalStore", "connect"]

P = ParamSpec("P")
T = TypeVar("T")
_THREADS: Final = 16  # most of them wait for the disk, which syncs many files in one go
_BLOCK: Final = 1 << 20


def connect(url: str, clock: Clock, environ: Mapping[str, str]) -> LocalStore:
    """Give the store in the folder that a `file:///abs/dir` URL names.

    Raises:
        Misconfigured: the URL names a host or no absolute path.
    """
    del environ
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc or parts.query or not path.is_absolute():
        raise Misconfigured(f"{url} names no local folder: write file:///absolute/path")
    return LocalStore(path, clock)


class LocalStore:
    """A folder with the manners of a bucket. Every call runs in a thread of its own pool."""

    features = Features(
        durability="an object survives loss of power once written: its file and folder are synced",
        survives_restart=True,
        many_processes=True,
        signs=False,
    )

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._disk = Disk(folder, clock)
        self._pool: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Make the folder where it is absent, and sweep what crashed writers left."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="penstock-store")
            try:
                await self._threaded(self._disk.open)
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Finish what is under way, and let go."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
            self._disk.close()

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], condition: Put = ALWAYS) -> Info:
        """Write a file beside the objects, sync it, and move it into its place."""
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._threaded(self._disk.write, key, bytes(data), condition)
        staged = self._disk.staged()
        try:
            await self._threaded(staged.open)
            async with aclosing(_blocks(data)) as blocks:
                async for block in blocks:
                    await self._threaded(staged.write, block)
            return await self._threaded(self._disk.place, staged, key, condition)
        finally:
            if self._pool is None:
                staged.close()
            else:
                await self._threaded(staged.discard)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Give an object's bytes."""
        return await self._threaded(self._disk.read, key, start, end)

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Give an object's bytes in blocks of 1 MiB."""
        reader = self._disk.reader()
        try:
            await self._threaded(reader.open, key, start, end)
            while block := await self._threaded(reader.read):
                yield block
        finally:
            reader.close()

    async def head(self, key: str) -> Info:
        """Give what is known of an object."""
        return await self._threaded(self._disk.head, key)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self._threaded(self._disk.remove, key)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[Info]:
        """List objects in key order; costs the folder's size at each page."""
        return await self._threaded(self._disk.page, prefix, after, limit)

    async def sign(
        self, method: str, key: str, expires_s: float, *, size: int | None = None, create: bool = False
    ) -> SignedUrl | None:
        """Give None: a folder has no server."""
        del method, key, expires_s, size, create
        return None

    async def _threaded(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in the pool; a cancelled caller goes only once the call, which uses its things, ended."""
        if self._pool is None:
            raise Unavailable("the store is closed")
        call = asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))
        cancelled: asyncio.CancelledError | None = None
        while not call.done():
            try:
                await asyncio.wait([call])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            call.exception()  # looked at, so that the loop does not complain
            raise cancelled
        return call.result()


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytearray, None]:
    """Gather small chunks into blocks worth a trip to a thread."""
    block = bytearray()
    async for chunk in chunks:
        block += chunk
        if len(block) >= _BLOCK:
            yield block
            block = bytearray()
    if block:
        yield block
