"""A state machine that does the same things to a store driver and to the memory store, and compares what comes of them.

class MyStoreMachine(StoreMachine):
    def make(self) -> Driver: ...  # a driver on the same objects each time, not open yet

TestMyStoreMachine = MyStoreMachine.TestCase
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.errors import PenstockError
from penstock.store.driver import ALWAYS, Driver, Info, Put
from penstock.store.memory import MemoryStore
from penstock.testing.clock import ManualClock

__all__ = ["StoreMachine"]

T = TypeVar("T")
# No key is another one's folder: a driver with folders may refuse those.
KEYS: Final = ("a", "b/a", "b/c", "b/c-", "b/c.d/e", "b/cc/é", "c d/%2F")
PREFIXES: Final = ("", "a", "b", "b/", "b/c", "b/c.", "b/c.d/", "c", "z", "b/zz/")


class StoreMachine(RuleBasedStateMachine):
    """Puts, conditional puts, reads, lists, deletes and restarts, on the driver that `make` gives and on the model."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._model = MemoryStore(ManualClock())
        self._driver = self.make()
        self._writes = 0
        self._versions: list[tuple[str, str, str]] = []  # each version written: its key, its etag here and in the model
        self._run(self._model.open())
        self._run(self._driver.open())

    @abstractmethod
    def make(self) -> Driver:
        """Give a driver that is not open yet, on the same objects whenever it is called for one machine."""

    def teardown(self) -> None:
        """Close all."""
        self._run(self._driver.close())
        self._runner.close()

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, 3000), streamed=st.booleans(), create=st.booleans())
    def put(self, key: str, size: int, *, streamed: bool, create: bool) -> None:
        """Write, or create only."""
        self._put(key, size, (Put(create=create),) * 2, streamed=streamed)

    @precondition(lambda self: self._versions)
    @rule(data=st.data(), key=st.none() | st.sampled_from(KEYS), size=st.integers(0, 3000), streamed=st.booleans())
    def replace(self, data: st.DataObject, key: str | None, size: int, *, streamed: bool) -> None:
        """Write over a version that may be past, or another key's."""
        own, etag, model_etag = data.draw(st.sampled_from(self._versions[-10:]))
        self._put(key or own, size, (Put(match=etag), Put(match=model_etag)), streamed=streamed)

    @rule(key=st.sampled_from(KEYS), start=st.integers(0, 3200), length=st.none() | st.integers(0, 3200))
    def read(self, key: str, start: int, length: int | None) -> None:
        """Read a range, in one go and in chunks."""
        end = None if length is None else start + length
        wanted = self._outcome(self._model.get(key, start, end))
        assert self._outcome(self._driver.get(key, start, end)) == wanted
        assert self._outcome(_streamed(self._driver, key, start, end)) == wanted

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        """Remove."""
        self._run(self._model.delete(key))
        self._run(self._driver.delete(key))

    @rule(prefix=st.sampled_from(PREFIXES), after=st.sampled_from((*KEYS, *PREFIXES)), limit=st.integers(1, 9))
    def list(self, prefix: str, after: str, limit: int) -> None:
        """List a page."""
        found = self._run(self._driver.list(prefix, after=after, limit=limit))
        wanted = self._run(self._model.list(prefix, after=after, limit=limit))
        assert [_shape(info) for info in found] == [_shape(info) for info in wanted]

    @precondition(lambda self: self._driver.features.survives_restart)
    @rule()
    def restart(self) -> None:
        """Open the same objects anew."""
        self._run(self._driver.close())
        self._driver = self.make()
        self._run(self._driver.open())

    @invariant()
    def nothing_is_lost_or_left_over(self) -> None:
        """Both hold the same objects, and `head` says what `list` says."""
        found = self._run(self._driver.list(""))
        assert [_shape(info) for info in found] == [_shape(info) for info in self._run(self._model.list(""))]
        for info in found:
            assert self._run(self._driver.head(info.key)) == info

    def _put(self, key: str, size: int, conditions: tuple[Put, Put], *, streamed: bool) -> None:
        self._writes += 1  # no two writes are of the same bytes
        data = (b"%d." % self._writes * (size + 1))[: size + 8]
        wanted = self._outcome(self._model.put(key, data, conditions[1]))
        found = self._outcome(self._driver.put(key, _parts(data) if streamed else data, conditions[0]))
        if isinstance(wanted, Info) and isinstance(found, Info):
            assert _shape(found) == _shape(wanted)
            self._versions.append((key, found.etag, wanted.etag))
        else:
            assert found == wanted
        assert conditions[0] != ALWAYS or isinstance(found, Info)

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def _outcome(self, call: Awaitable[T]) -> T | type[PenstockError]:
        """Give what a call gives, or the kind of error that it raises."""

        async def outcome() -> T | type[PenstockError]:
            try:
                return await call
            except PenstockError as error:
                return type(error)

        return self._run(outcome())


def _shape(info: Info) -> tuple[str, int]:
    return info.key, info.size


async def _parts(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


async def _streamed(driver: Driver, key: str, start: int, end: int | None) -> bytes:
    return b"".join([chunk async for chunk in driver.stream(key, start, end)])
