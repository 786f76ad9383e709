"""Results on their way in: durable before any record names them, each under a key that one attempt alone may write."""

from __future__ import annotations

from typing import Final

from penstock.errors import Conflict, NotFound, TooLarge
from penstock.model.run import Payload, Run
from penstock.model.wire import SettleItem
from penstock.store import SignedUrl, Store, keys
from penstock.store.driver import Put

from .catalog import Catalog

__all__ = ["Results"]

_URL_TTL_S: Final = 900.0


class Results:
    """Where the results of attempts go: into the ledger when small, else into the store."""

    def __init__(self, store: Store, catalog: Catalog, inline_max_bytes: int) -> None:
        self._store = store
        self._catalog = catalog
        self._inline_max_bytes = inline_max_bytes

    def inline(self, item: SettleItem) -> Payload | None:
        """Give a small result as it is recorded, or None for one that belongs in the store."""
        data = item.result or b""
        if item.result_key is not None or len(data) > self._inline_max_bytes:
            return None
        return Payload(inline=data, size=len(data), content_type=item.content_type, encoding=item.encoding)

    async def stored(self, run: Run, item: SettleItem) -> Payload:
        """Give a large result as it is recorded, once it is in the store.

        Raises `NotFound` when it was not uploaded, or not under this attempt's key, and `TooLarge`.
        """
        key = self.key(run)
        if item.result_key is None:
            await self._put(key, item.result or b"")
        elif item.result_key != key:
            raise NotFound("the result was uploaded under a key that is not this attempt's")
        size = (await self._store.head(key)).size
        most = self._catalog.get(run.app).app.results.max_result_bytes
        if size > most:
            raise TooLarge(f"the result has {size} bytes; the app allows {most} (results.maxResultBytes)")
        return Payload(key=key, size=size, content_type=item.content_type, encoding=item.encoding)

    def key(self, run: Run) -> str:
        """Give the object that only this attempt may write: the plain name for the very first, else one of its own."""
        home = keys.home(self._catalog.get(run.app).app.storage_prefix, run.tenant)
        if run.generation == 1 and run.epoch == 1:
            return keys.result(home, run.key)
        return keys.result_of_epoch(home, run.key, run.id, run.epoch)

    async def url(self, run: Run, size: int) -> SignedUrl:
        """Give a URL by which the attempt's worker may put its result of `size` bytes, once."""
        return await self._store.url("PUT", self.key(run), _URL_TTL_S, size=size, create=True)

    async def body_url(self, run: Run) -> str | None:
        """Give a URL by which a worker may get a run's body, if that lies in the store."""
        if run.body.inline is not None or run.body.key is None:
            return None
        return (await self._store.url("GET", run.body.key, _URL_TTL_S)).url

    async def _put(self, key: str, data: bytes) -> None:
        try:
            await self._store.put(key, data, Put(create=True))
        except Conflict:
            await self._store.put(key, data)  # this very attempt repeats itself: nobody else has this key
