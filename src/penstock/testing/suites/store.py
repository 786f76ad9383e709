"""The contract of a store driver as tests: a driver is certified by subclassing `StoreSuite` with one fixture.

    class TestMyStore(StoreSuite):
        @pytest.fixture
        async def rig(self):
            driver = MyStore(...)
            await driver.open()
            yield StoreRig(driver=driver, peek=..., plant=..., leftovers=..., another=..., url=...)
            await driver.close()

The rig's back door reads and writes past the driver, so that a put that lies can't be confirmed by a get that lies.
What a driver can do is asked of its `features`. The tests are coroutines: run them with pytest-asyncio in auto mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import pytest

from penstock.errors import Conflict, NotFound, Unavailable
from penstock.store.driver import Driver, Info, Put

__all__ = ["StoreRig", "StoreSuite"]

CREATE: Final = Put(create=True)
MIB: Final = 1 << 20
TOLD_IN_S: Final = 20.0
SAME_TIME_S: Final = 5.0

ODD_KEYS: Final = (
    "a",
    "with space/and more",
    "percent%2Fencoded%00",
    "plus+hash#question?amp&equals=",
    "quote'\"`backtick$dollar",
    "ünïcödé/日本語/🙂",
    "e\u0301 decomposed and \u00e9 composed",
    "-dash/--double",
    "tilde~/star*/colon:/semi;/pipe|/<angle>",
    "trailing.dot./and space ",
    "CON/nul.txt",
    "UPPER/Case",
    "upper/case",
    "l" * 255,
    "/".join("deep" for _ in range(40)),
)

# Writes objects that are each of one letter, in both ways, and says which are done; until it is killed.
WRITER: Final = """
import asyncio, os, sys
from penstock.run.clock import SystemClock
from penstock.store import open_store
SIZE = 1 << 20
async def parts(data):
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]
async def main():
    async with open_store(sys.argv[1], clock=SystemClock(), random=os.urandom) as store:
        for number in range(1_000_000):
            data = bytes([97 + number % 26]) * SIZE
            await store.put("again/same", data)
            await store.put(f"crash/{number:06}", parts(data) if number % 2 else data)
            print(number, flush=True)
asyncio.run(main())
"""


@dataclass(frozen=True, kw_only=True)
class StoreRig:
    """A driver under test, open, and a way round it."""

    driver: Driver
    peek: Callable[[str], Awaitable[bytes | None]]
    """Reads an object past the driver; None where there is none."""
    plant: Callable[[str, bytes], Awaitable[None]]
    """Writes an object past the driver."""
    leftovers: Callable[[], Awaitable[list[str]]]
    """Names whatever lies beside the objects that no put under way accounts for."""
    another: Callable[[], Driver] | None = None
    """Gives a second driver on the same objects, not open yet; where `survives_restart` or `many_processes`."""
    url: str | None = None
    """Where another process finds the same objects by `open_store`; where `survives_restart`."""


class StoreSuite:
    """What every store driver does. Subclass it with a fixture `rig` that gives a `StoreRig`."""

    # -------------------------------------------------------------- whole objects

    async def test_what_is_put_lies_there(self, rig: StoreRig) -> None:
        info = await rig.driver.put("a/b/c", b"hello")
        assert (info.key, info.size) == ("a/b/c", 5)
        assert await rig.peek("a/b/c") == b"hello"
        assert _alike(await rig.driver.head("a/b/c"), info)

    async def test_what_lies_there_is_given(self, rig: StoreRig) -> None:
        await rig.plant("a/planted", b"from outside")
        assert await rig.driver.get("a/planted") == b"from outside"
        assert await _streamed(rig.driver, "a/planted") == b"from outside"
        assert (await rig.driver.head("a/planted")).size == 12
        assert [info.key for info in await rig.driver.list("a/")] == ["a/planted"]

    async def test_an_empty_object_is_an_object(self, rig: StoreRig) -> None:
        assert (await rig.driver.put("empty", b"")).size == 0
        assert (await rig.driver.put("empty too", _chunks([]))).size == 0
        assert await rig.peek("empty") == await rig.peek("empty too") == b""
        assert await rig.driver.get("empty") == await _streamed(rig.driver, "empty") == b""

    async def test_every_byte_comes_back(self, rig: StoreRig) -> None:
        data = bytes(range(256)) * 40
        await rig.driver.put("bytes", data)
        assert await rig.peek("bytes") == await rig.driver.get("bytes") == data

    async def test_what_was_never_put_is_not_found(self, rig: StoreRig) -> None:
        await rig.driver.put("folder/inner", b"x")
        for key in ("nowhere", "no/such/folder", "folder", "folder/inner/deeper"):
            with pytest.raises(NotFound):
                await rig.driver.get(key)
            with pytest.raises(NotFound):
                await rig.driver.head(key)
            with pytest.raises(NotFound):
                await _streamed(rig.driver, key)

    async def test_a_put_replaces(self, rig: StoreRig) -> None:
        first = await rig.driver.put("key", b"first")
        second = await rig.driver.put("key", b"other")
        assert await rig.peek("key") == b"other"
        assert first.etag != second.etag
        assert _alike(await rig.driver.head("key"), second)

    async def test_a_deleted_object_is_gone_and_may_come_again(self, rig: StoreRig) -> None:
        await rig.driver.put("a/b", b"x")
        await rig.driver.delete("a/b")
        assert await rig.peek("a/b") is None
        with pytest.raises(NotFound):
            await rig.driver.get("a/b")
        assert await rig.driver.list("") == []
        await rig.driver.put("a/b", b"y", CREATE)
        assert await rig.peek("a/b") == b"y"

    async def test_an_absent_object_may_be_deleted(self, rig: StoreRig) -> None:
        await rig.driver.put("folder/inner", b"x")
        for key in ("nowhere", "no/such", "folder", "folder/inner/deeper"):
            await rig.driver.delete(key)
        assert await rig.peek("folder/inner") == b"x"

    @pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
    async def test_odd_keys_are_keys(self, rig: StoreRig, key: str) -> None:
        await rig.driver.put(key, key.encode(), CREATE)
        assert await rig.peek(key) == key.encode()
        assert await rig.driver.get(key) == key.encode()
        assert [info.key for info in await rig.driver.list("")] == [key]
        await rig.driver.delete(key)
        assert await rig.peek(key) is None

    async def test_keys_that_look_alike_are_apart(self, rig: StoreRig) -> None:
        for key in ODD_KEYS:
            await rig.driver.put(key, key.encode(), CREATE)
        assert [await rig.peek(key) for key in ODD_KEYS] == [key.encode() for key in ODD_KEYS]
        assert [info.key for info in await rig.driver.list("")] == sorted(ODD_KEYS)

    # -------------------------------------------------------------- conditions

    async def test_create_never_replaces(self, rig: StoreRig) -> None:
        await rig.driver.put("key", b"first", CREATE)
        with pytest.raises(Conflict):
            await rig.driver.put("key", b"second", CREATE)
        with pytest.raises(Conflict):
            await rig.driver.put("key", _chunks([b"third"]), CREATE)
        assert await rig.peek("key") == b"first"
        assert await rig.leftovers() == []

    async def test_of_creators_exactly_one_wins(self, rig: StoreRig) -> None:
        for round_number in range(5):
            key = f"race/{round_number}"
            outcomes = await asyncio.gather(
                *(rig.driver.put(key, b"%d" % number, CREATE) for number in range(16)), return_exceptions=True
            )
            winners = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
            assert len(winners) == 1
            assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 15
            assert await rig.peek(key) == b"%d" % winners[0]
        assert await rig.leftovers() == []

    async def test_match_replaces_the_version_that_it_names(self, rig: StoreRig) -> None:
        first = await rig.driver.put("key", b"first")
        second = await rig.driver.put("key", b"second", Put(match=first.etag))
        with pytest.raises(Conflict):
            await rig.driver.put("key", b"third", Put(match=first.etag))
        assert await rig.peek("key") == b"second"
        assert (await rig.driver.head("key")).etag == second.etag

    async def test_match_never_creates(self, rig: StoreRig) -> None:
        gone = await rig.driver.put("a/key", b"x")
        await rig.driver.delete("a/key")
        with pytest.raises(Conflict):
            await rig.driver.put("a/key", b"y", Put(match=gone.etag))
        assert await rig.peek("a/key") is None
        assert await rig.leftovers() == []

    async def test_no_update_is_lost(self, rig: StoreRig) -> None:
        await rig.driver.put("counter", b"0")
        await asyncio.gather(*(_count(rig.driver, 5) for _ in range(8)))
        assert await rig.peek("counter") == b"40"

    async def test_no_update_is_lost_between_processes(self, rig: StoreRig) -> None:
        async with _another(rig, needs=rig.driver.features.many_processes) as other:
            await rig.driver.put("counter", b"0")
            await asyncio.gather(*(_count(driver, 5) for driver in (rig.driver, other) for _ in range(4)))
            assert await rig.peek("counter") == b"40"

    # -------------------------------------------------------------- ranges and lists

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, None), (0, 0), (0, 1), (3, 7), (7, None), (9, 10), (5, 99), (10, None), (10, 20), (99, None)],
    )
    async def test_a_range_is_a_slice(self, rig: StoreRig, start: int, end: int | None) -> None:
        await rig.driver.put("ten", b"0123456789")
        assert await rig.driver.get("ten", start, end) == b"0123456789"[start:end]
        assert await _streamed(rig.driver, "ten", start, end) == b"0123456789"[start:end]

    async def test_a_list_is_in_key_order_page_by_page(self, rig: StoreRig) -> None:
        keys = [f"p/{number:02}" for number in range(20)] + ["p/05-x", "p/05.x", "p/05x/y", "p/05!", "q/1", "o/1", "pp"]
        for key in keys:
            await rig.driver.put(key, key.encode())
        wanted = sorted(key for key in keys if key.startswith("p/"))
        found: list[str] = []
        while page := await rig.driver.list("p/", after=found[-1] if found else "", limit=7):
            assert len(page) <= 7
            assert [info.size for info in page] == [len(info.key.encode()) for info in page]
            found += [info.key for info in page]
        assert found == wanted

    async def test_a_list_begins_after_any_text(self, rig: StoreRig) -> None:
        keys = ["a-b", "a.b", "a/b", "a/c/d", "a/c/e", "a0", "b"]
        for key in keys:
            await rig.driver.put(key, b"")
        for after in ("", "a", "a/", "a/b", "a/c", "a/c/", "a/c/d", "a/c/dz", "a/c0", "a0", "zz"):
            found = [info.key for info in await rig.driver.list("", after=after)]
            assert found == [key for key in keys if key > after]

    async def test_a_prefix_may_end_within_a_segment(self, rig: StoreRig) -> None:
        keys = ["ab/1", "ab/2", "abc/1", "abd"]
        for key in keys:
            await rig.driver.put(key, b"")
        for prefix in ("", "a", "ab", "ab/", "abc", "abc/1", "abd/", "ab/1/", "x", "x/y"):
            found = [info.key for info in await rig.driver.list(prefix)]
            assert found == [key for key in keys if key.startswith(prefix)]

    # -------------------------------------------------------------- large objects and streams

    async def test_a_large_stream_goes_in_and_out(self, rig: StoreRig) -> None:
        block = hashlib.shake_256(b"a large object").digest(700_001)
        wanted = hashlib.sha256(block * 24).digest()
        info = await rig.driver.put("large", _chunks([block] * 24))
        assert info.size == len(block) * 24
        digest = hashlib.sha256()
        async with contextlib.aclosing(rig.driver.stream("large")) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
        assert digest.digest() == wanted
        assert hashlib.sha256(await rig.peek("large") or b"").digest() == wanted
        assert await rig.driver.get("large", 700_000, 700_002) == block[-1:] + block[:1]

    async def test_streams_are_written_and_read_in_bounded_memory(self, rig: StoreRig) -> None:
        if not rig.driver.features.survives_restart:
            pytest.skip("it keeps its objects in memory")
        tracemalloc.start()
        try:
            await rig.driver.put("large", _chunks(bytes(MIB) for _ in range(64)))
            async with contextlib.aclosing(rig.driver.stream("large")) as chunks:
                assert sum([len(chunk) async for chunk in chunks]) == 64 * MIB
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 24 * MIB

    async def test_a_stream_that_fails_changes_nothing(self, rig: StoreRig) -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield bytes(2 * MIB)
            raise ZeroDivisionError

        await rig.driver.put("key", b"before")
        for key in ("key", "fresh/key"):
            with pytest.raises(ZeroDivisionError):
                await rig.driver.put(key, failing())
        assert await rig.peek("key") == b"before"
        assert await rig.peek("fresh/key") is None
        assert await rig.leftovers() == []

    @pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
    async def test_a_cancelled_put_leaves_all_or_nothing(self, rig: StoreRig, turns: int) -> None:
        endless = asyncio.Event()

        async def stalling() -> AsyncIterator[bytes]:
            yield bytes(2 * MIB)
            await endless.wait()

        await rig.driver.put("key", b"before")
        putting = [
            asyncio.create_task(rig.driver.put("key", stalling())),
            asyncio.create_task(rig.driver.put("whole", b"x" * MIB)),
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in putting:
            task.cancel()
        await asyncio.gather(*putting, return_exceptions=True)
        assert await rig.peek("key") == b"before"
        assert await rig.peek("whole") in {None, b"x" * MIB}
        assert await rig.leftovers() == []

    async def test_a_reader_reads_on_in_the_version_that_it_began(self, rig: StoreRig) -> None:
        await rig.driver.put("key", b"a" * (3 * MIB))
        async with contextlib.aclosing(rig.driver.stream("key")) as chunks:
            read = await anext(chunks)
            await rig.driver.put("key", b"b" * (3 * MIB))
            async for chunk in chunks:
                read += chunk
        assert read == b"a" * (3 * MIB)

    async def test_no_reader_sees_half_an_object(self, rig: StoreRig) -> None:
        async def write() -> None:
            for number in range(30):
                await rig.driver.put("key", bytes([number]) * (200_000 + number))

        async def read() -> None:
            while not writing.done():
                data = await rig.driver.get("key")
                assert data == data[:1] * (200_000 + data[0])

        await rig.driver.put("key", bytes(200_000))
        writing = asyncio.create_task(write())
        await asyncio.gather(writing, *(read() for _ in range(3)))

    async def test_puts_and_deletes_in_one_folder_get_on(self, rig: StoreRig) -> None:
        async def come_and_go(number: int) -> None:
            for turn in range(10):
                key = f"shared/folder/{number}"
                await rig.driver.put(key, b"%d" % turn, CREATE)
                assert await rig.driver.get(key) == b"%d" % turn
                await rig.driver.delete(key)

        await asyncio.gather(*(come_and_go(number) for number in range(8)))
        assert await rig.driver.list("") == []

    # -------------------------------------------------------------- coming and going

    async def test_objects_survive_a_restart(self, rig: StoreRig) -> None:
        info = await rig.driver.put("a/kept", b"kept")
        await rig.driver.close()
        async with _another(rig, needs=rig.driver.features.survives_restart) as other:
            assert await other.get("a/kept") == b"kept"
            assert _alike(await other.head("a/kept"), info)

    async def test_a_killed_writer_leaves_only_whole_objects(self, rig: StoreRig) -> None:
        if not rig.driver.features.survives_restart or rig.url is None:
            pytest.skip("no other process can write to it")
        for done in (1, 4):
            reported = await _killed_while_writing(rig.url, done)
            async with _another(rig, needs=True) as other:
                found = {info.key: info for info in await other.list("")}
                assert {f"crash/{number:06}" for number in range(reported + 1)} <= set(found)
                for key in found:
                    data = await rig.peek(key)
                    assert data == (data or b"?")[:1] * MIB, key
                assert await rig.leftovers() == []

    async def test_a_closed_store_says_so(self, rig: StoreRig) -> None:
        await rig.driver.put("key", b"x")
        await rig.driver.close()
        await rig.driver.close()
        for call in (rig.driver.put("key", b"y"), rig.driver.get("key"), rig.driver.list("")):
            with pytest.raises(Unavailable):
                await call

    async def test_it_signs_if_it_says_so(self, rig: StoreRig) -> None:
        signed = await rig.driver.sign("GET", "a/b c", 60.0)
        assert (signed is not None) == rig.driver.features.signs
        if signed is not None:
            assert signed.method == "GET"
            assert signed.url.startswith("http")
            assert signed.expires_at > 0

    async def test_it_says_how_durable_it_is(self, rig: StoreRig) -> None:
        assert len(rig.driver.features.durability.split()) > 3


def _alike(info: Info, other: Info) -> bool:
    """Tell whether two records are of one version; a vendor's time may differ a little from the writer's."""
    same = (info.key, info.size, info.etag) == (other.key, other.size, other.etag)
    return same and abs(info.modified_at - other.modified_at) < SAME_TIME_S


async def _chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _streamed(driver: Driver, key: str, start: int = 0, end: int | None = None) -> bytes:
    async with contextlib.aclosing(driver.stream(key, start, end)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def _count(driver: Driver, times: int) -> None:
    """Add to a counter by compare-and-set, as often as it takes."""
    while times:
        info = await driver.head("counter")
        data = await driver.get("counter")
        with contextlib.suppress(Conflict):
            await driver.put("counter", b"%d" % (int(data) + 1), Put(match=info.etag))
            times -= 1


@contextlib.asynccontextmanager
async def _another(rig: StoreRig, *, needs: bool) -> AsyncIterator[Driver]:
    if not needs:
        pytest.skip("the driver says that it can't")
    assert rig.another is not None, "its features need a rig that gives `another` driver"
    driver = rig.another()
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


async def _killed_while_writing(url: str, done: int) -> int:
    """Kill -9 a process in the middle of its puts, once it reported so many; gives the last number that it reported."""
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, url, stdout=asyncio.subprocess.PIPE)
    assert writer.stdout is not None
    async with asyncio.timeout(TOLD_IN_S):
        while int(await writer.stdout.readline()) < done:
            pass
    writer.kill()
    told = (await writer.stdout.read()).splitlines()
    await writer.wait()
    return max([done, *(int(line) for line in told)])
