"""What is particular to a folder: paths, links, leftovers, locks, and the system's errors."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from penstock.errors import Conflict, Invalid, Misconfigured, NotFound, Unavailable
from penstock.store import _disk
from penstock.store.driver import Put
from penstock.store.local import LocalStore
from penstock.testing.clock import ManualClock


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "objects"


@pytest.fixture
async def store(folder):
    made = LocalStore(folder, ManualClock())
    await made.open()
    yield made
    await made.close()


def staged_in(folder):
    return [path for path in (folder / ".penstock/staging").rglob("*") if path.is_file() and path.name != "lock"]


async def test_a_key_is_the_path(store, folder):
    await store.put("AppData/x/requests/r.1", b"body")
    assert (folder / "AppData/x/requests/r.1").read_bytes() == b"body"


async def test_objects_are_stamped_by_the_clock_that_is_given(store):
    info = await store.put("a", b"x")
    assert abs(info.modified_at - 1_700_000_000.0) < 0.002


async def test_an_etag_never_comes_again(store):
    """Not even where size, inode and the clock's time are the same."""
    seen = set()
    for _ in range(200):
        seen.add((await store.put("a", b"same")).etag)
        await store.delete("a")
    assert len(seen) == 200


async def test_a_key_that_is_a_folder_is_refused(store, folder):
    await store.put("a/b", b"x")
    for condition in (Put(), Put(create=True)):
        with pytest.raises(Invalid, match="under"):
            await store.put("a", b"y", condition)
        with pytest.raises(Invalid, match="under"):
            await store.put("a/b/c", b"y", condition)
    assert (folder / "a/b").read_bytes() == b"x"
    assert staged_in(folder) == []


async def test_emptied_folders_go_with_their_last_object(store, folder):
    await store.put("a/b/c/one", b"")
    await store.put("a/other", b"")
    await store.delete("a/b/c/one")
    assert sorted(path.name for path in (folder / "a").iterdir()) == ["other"]
    await store.delete("a/other")
    assert sorted(path.name for path in folder.iterdir()) == [".penstock"]


# ------------------------------------------------------------------ links


@pytest.fixture
def outside(tmp_path):
    target = tmp_path / "outside"
    target.mkdir()
    (target / "secret").write_bytes(b"secret")
    return target


async def test_no_link_leads_out_of_the_folder(store, folder, outside):
    (folder / "link").symlink_to(outside)
    (folder / "file").symlink_to(outside / "secret")
    for key in ("link/secret", "file", "link"):
        with pytest.raises(NotFound):
            await store.get(key)
        with pytest.raises(NotFound):
            await store.head(key)
    with pytest.raises(Invalid):
        await store.put("link/new", b"x")
    assert await store.list("") == []
    assert await store.list("link/") == []
    await store.delete("link/secret")
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


async def test_a_put_replaces_a_link_and_never_writes_through_it(store, folder, outside):
    (folder / "file").symlink_to(outside / "secret")
    with pytest.raises(Conflict):
        await store.put("file", b"mine", Put(create=True))
    await store.put("file", b"mine")
    assert (outside / "secret").read_bytes() == b"secret"
    assert (folder / "file").read_bytes() == b"mine"
    assert not (folder / "file").is_symlink()


async def test_what_is_no_file_is_no_object(store, folder):
    os.mkfifo(folder / "pipe")
    (folder / "a").mkdir()
    with pytest.raises(NotFound):
        await store.get("pipe")
    with pytest.raises(NotFound):
        await store.head("pipe")
    assert await store.list("") == []


async def test_names_that_are_no_text_are_passed_over(store, folder):
    (folder / os.fsdecode(b"bad\xff")).write_bytes(b"x")
    await store.put("good", b"x")
    assert [info.key for info in await store.list("")] == ["good"]


@pytest.mark.parametrize("prefix", ["../", "/", "..", "a//", ".penstock/", "./", "/etc/"])
async def test_a_list_never_leaves_the_folder(store, outside, prefix):
    await store.put("a/b", b"x")
    assert await store.list(prefix) == []


# ------------------------------------------------------------------ leftovers


async def test_opening_sweeps_what_dead_writers_left_and_only_that(store, folder):
    dead = folder / ".penstock/staging/999999-1"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "1").write_bytes(b"half an obj")
    stillborn = folder / ".penstock/staging/999999-2"
    stillborn.mkdir()
    gate, staged = asyncio.Event(), asyncio.Event()

    async def slow():
        yield b"x" * 2_000_000
        staged.set()
        await gate.wait()

    putting = asyncio.create_task(store.put("slow", slow()))
    await staged.wait()
    other = LocalStore(folder, ManualClock())
    await other.open()
    assert not dead.exists()
    assert not stillborn.exists()
    assert len(staged_in(folder)) == 1, "the living writer's file"
    gate.set()
    assert (await putting).size == 2_000_000
    await other.close()


async def test_closing_leaves_no_staging_folder(store, folder):
    await store.put("a", b"x")
    await store.close()
    assert list((folder / ".penstock/staging").iterdir()) == []


async def test_a_put_that_is_cut_by_closing_fails_and_leaves_nothing(store, folder):
    gate, staged = asyncio.Event(), asyncio.Event()

    async def slow():
        yield b"x" * 2_000_000
        staged.set()
        await gate.wait()
        yield b"x" * 2_000_000

    putting = asyncio.create_task(store.put("slow", slow()))
    await staged.wait()
    await store.close()
    gate.set()
    with pytest.raises(Unavailable, match="closed"):
        await putting
    assert staged_in(folder) == []
    assert not (folder / "slow").exists()


async def test_a_store_may_be_opened_again(store):
    await store.put("a", b"x")
    await store.open()
    await store.close()
    await store.open()
    assert await store.get("a") == b"x"


async def test_cancelled_twice_is_cancelled_once_done(store, monkeypatch):
    """A caller that is cancelled goes only when its thread has ended, and can't be hurried."""
    began, go = threading.Event(), threading.Event()
    sync = os.fsync

    def slow(descriptor):
        began.set()
        go.wait(10)
        sync(descriptor)

    monkeypatch.setattr(_disk.os, "fsync", slow)
    putting = asyncio.create_task(store.put("a", b"x"))
    await asyncio.to_thread(began.wait, 10)
    for _ in range(3):
        putting.cancel()
        await asyncio.sleep(0)
    assert not putting.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await store.get("a") == b"x"


# ------------------------------------------------------------------ the system's errors


def failing(code, times=1):
    """Give a stand-in for a system call that fails so many times, then does what it should."""
    left = [times]

    def wrap(real):
        def call(*args, **kwargs):
            if left[0]:
                left[0] -= 1
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        return call

    return wrap


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, Unavailable),
        (errno.EDQUOT, Unavailable),
        (errno.EIO, Unavailable),
        (errno.EMFILE, Unavailable),
        (errno.EROFS, Misconfigured),
        (errno.EACCES, Misconfigured),
        (errno.EPERM, Misconfigured),
    ],
)
async def test_a_failed_write_leaves_nothing(store, folder, monkeypatch, call, code, error):
    await store.put("there", b"x")

    async def parts():
        yield b"y" * 3_000_000

    for data in (b"y", parts()):
        with monkeypatch.context() as patched:
            patched.setattr(_disk.os, call, failing(code)(getattr(os, call)))
            with pytest.raises(error, match=os.strerror(code)):
                await store.put("new", data, Put(create=True))
        assert staged_in(folder) == []
        assert not (folder / "new").exists()
    assert [info.key for info in await store.list("")] == ["there"]
    await store.put("new", b"y", Put(create=True))


async def test_a_failed_replace_leaves_the_old(store, folder, monkeypatch):
    await store.put("a", b"old")
    monkeypatch.setattr(_disk.os, "rename", failing(errno.ENOSPC)(os.rename))
    with pytest.raises(Unavailable):
        await store.put("a", b"new")
    assert (folder / "a").read_bytes() == b"old"
    assert staged_in(folder) == []


async def test_a_failed_read_is_told(store, monkeypatch):
    await store.put("a", b"x")
    monkeypatch.setattr(_disk.os, "pread", failing(errno.EIO)(os.pread))
    with pytest.raises(Unavailable, match="Input/output error"):
        await store.get("a")
    assert await store.get("a") == b"x"


async def test_a_folder_that_is_pruned_under_a_put_is_made_again(store, folder, monkeypatch):
    monkeypatch.setattr(_disk.os, "link", failing(errno.ENOENT, times=3)(os.link))
    await store.put("a/b", b"x", Put(create=True))
    assert (folder / "a/b").read_bytes() == b"x"
    monkeypatch.setattr(_disk.os, "link", failing(errno.ENOENT, times=1000)(os.link))
    with pytest.raises(Unavailable, match="vanished"):
        await store.put("a/c", b"x", Put(create=True))


async def test_a_place_that_is_no_folder_stops_the_start(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/inner"):
        store = LocalStore(path, ManualClock())
        with pytest.raises((Invalid, Misconfigured, Unavailable)):
            await store.open()
        with pytest.raises(Unavailable, match="closed"):
            await store.get("a")


async def test_a_folder_that_may_not_be_written_stops_the_start(folder, monkeypatch):
    monkeypatch.setattr(_disk.os, "mkdir", failing(errno.EROFS, times=9)(os.mkdir))
    store = LocalStore(folder, ManualClock())
    with pytest.raises(Misconfigured, match="Read-only"):
        await store.open()


async def test_a_large_range_is_read_in_blocks(store):
    data = bytes(range(256)) * 12_289
    await store.put("a", data)
    assert await store.get("a", 1000, 3_000_000) == data[1000:3_000_000]
    sizes = [len(chunk) async for chunk in store.stream("a", 5)]
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == len(data) - 5


async def test_short_writes_are_finished(store, folder, monkeypatch):
    write = os.write
    monkeypatch.setattr(_disk.os, "write", lambda descriptor, data: write(descriptor, data[:1000]))
    await store.put("a", bytes(range(256)) * 20)
    assert (folder / "a").read_bytes() == bytes(range(256)) * 20


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_is_leaked(store):
    before = open_descriptors()
    for _ in range(5):
        await store.put("a/b", b"x")
        await store.get("a/b")
        await store.list("a")
        async for _chunk in store.stream("a/b"):
            pass
        for call in (store.get("no/where"), store.get("a"), store.put("a", b"", Put(match="x"))):
            with pytest.raises((NotFound, Conflict, Invalid)):
                await call
        await store.delete("a/b")
    assert open_descriptors() == before
