"""The system calls under the local store: whole files, conditions, locks and folders. Blocking; run in threads.

Folders are walked by descriptor without following links, so neither a key nor a planted link leads out of the root.
Beside the objects lies one hidden folder, whose name no key can have:

    {root}/.penstock/locks/NN       a lock for each share of the keys: replaces and deletes of a key take turns
    {root}/.penstock/staging/NAME/  files being written by one open store, which holds the `lock` in it
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from penstock.errors import Conflict, Invalid, Misconfigured, NotFound, PenstockError, Unavailable
from penstock.model.ids import Clock

from .driver import Info, Put

__all__ = ["Disk", "Reader", "Staged"]

_HIDDEN: Final = ".penstock"
_STRIPES: Final = 64
_PLACING_TRIES: Final = 16  # a delete may prune the folder under a put; it is then made again
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NEEDS_OPERATOR: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP})
_NO_PLACE: Final = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


class Disk:
    """One folder of objects. `open` comes first; after `close` nothing works."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root_path = root
        self._clock = clock
        self._count = itertools.count(1)
        self._root = self._locks = self._staging = self._own = self._alive = -1
        self._own_name = ""

    # -------------------------------------------------------------- opening

    def open(self) -> None:
        """Make the folder where it is absent, sweep what crashed writers left, and claim a staging folder."""
        with _translated(str(self._root_path)):
            self._root_path.mkdir(parents=True, exist_ok=True)
            self._root = os.open(self._root_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with self._hidden() as hidden:
                self._locks = _made(hidden, "locks")
                self._staging = _made(hidden, "staging")
            with self._locked("open"):
                self._sweep()
                self._claim()

    def close(self) -> None:
        """Give the staging folder up; files still being written in it are swept."""
        if self._own >= 0:
            with suppress(OSError):
                _empty(self._own)
                os.rmdir(self._own_name, dir_fd=self._staging)
        for descriptor in (self._alive, self._own, self._staging, self._locks, self._root):
            if descriptor >= 0:
                os.close(descriptor)
        self._root = self._locks = self._staging = self._own = self._alive = -1

    @contextmanager
    def _hidden(self) -> Iterator[int]:
        descriptor = _made(self._root, _HIDDEN)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove the staging folders whose lock is free: their owners are dead."""
        for name in os.listdir(self._staging):  # noqa: PTH208 - by descriptor, not by path
            folder = os.open(name, _FOLDER, dir_fd=self._staging)
            lock = os.open("lock", _LOCK, 0o600, dir_fd=folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _empty(folder)
                os.rmdir(name, dir_fd=self._staging)
            except BlockingIOError:
                continue
            finally:
                os.close(lock)
                os.close(folder)

    def _claim(self) -> None:
        for number in itertools.count(1):
            self._own_name = f"{os.getpid()}-{number}"
            with suppress(FileExistsError):
                os.mkdir(self._own_name, 0o700, dir_fd=self._staging)
                break
        self._own = os.open(self._own_name, _FOLDER, dir_fd=self._staging)
        self._alive = os.open("lock", _LOCK, 0o600, dir_fd=self._own)
        fcntl.flock(self._alive, fcntl.LOCK_EX)

    # -------------------------------------------------------------- writing

    def staged(self) -> Staged:
        """Give a file to write to beside the objects; nothing is touched before it is opened."""
        return Staged(self._own, f"{next(self._count):x}")

    def write(self, key: str, data: bytes, condition: Put) -> Info:
        """Write an object whole and durably."""
        staged = self.staged()
        try:
            staged.open()
            staged.write(data)
            return self.place(staged, key, condition)
        finally:
            staged.discard()

    def place(self, staged: Staged, key: str, condition: Put) -> Info:
        """Make what was staged the object, durably, or raise and change nothing."""
        with _translated(key):
            staged.seal(self._stamp())
            *folders, name = key.split("/")
            for _ in range(_PLACING_TRIES):
                try:
                    with self._folder(folders, make=condition.match is None) as folder:
                        self._swap(staged, key, (folder, name), condition)
                        os.fsync(folder)
                        return _info(key, os.fstat(staged.descriptor))
                except FileNotFoundError:
                    if condition.match is not None:
                        raise _superseded(key) from None
        raise Unavailable(f"the folder of {key} vanished again and again while it was written")

    def _swap(self, staged: Staged, key: str, place: tuple[int, str], condition: Put) -> None:
        folder, name = place
        if condition.create:
            try:
                os.link(staged.name, name, src_dir_fd=self._own, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                if _is_folder(folder, name):
                    raise IsADirectoryError(errno.EISDIR, "is a folder") from None
                raise Conflict(f"{key} exists") from None
            return
        with self._locked(_stripe(key)):
            if condition.match is not None and _etag_at(folder, name) != condition.match:
                raise _superseded(key)
            os.rename(staged.name, name, src_dir_fd=self._own, dst_dir_fd=folder)

    def _stamp(self) -> int:
        """Give a file time in nanoseconds: milliseconds of the clock, then digits that no other write here has.

        File systems stamp writes by ticks of milliseconds and reuse inodes; an etag made of those could come again.
        """
        return int(self._clock.now() * 1000) * 1_000_000 + (os.getpid() * 7919 + next(self._count)) % 1_000_000

    def remove(self, key: str) -> None:
        """Remove an object, and the folders that it leaves empty; an absent one is fine."""
        *folders, name = key.split("/")
        with _translated(key), suppress(FileNotFoundError, NotADirectoryError):
            with self._folder(folders) as folder, self._locked(_stripe(key)):
                if _is_folder(folder, name):
                    return
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
            self._prune(folders)

    def _prune(self, folders: list[str]) -> None:
        for depth in range(len(folders), 0, -1):
            with self._folder(folders[: depth - 1]) as parent:
                try:
                    os.rmdir(folders[depth - 1], dir_fd=parent)
                except OSError:
                    return  # something lies in it: the usual case

    # -------------------------------------------------------------- reading

    def head(self, key: str) -> Info:
        """Give what is known of an object."""
        *folders, name = key.split("/")
        with _reading(key), self._folder(folders) as folder:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise NotFound(f"there is no object {key}")
            return _info(key, found)

    def reader(self) -> Reader:
        """Give a reader of one object; nothing is touched before it is opened."""
        return Reader(self)

    def descriptor(self, key: str) -> int:
        """Give an open descriptor of an object; the caller closes it."""
        *folders, name = key.split("/")
        with _reading(key), self._folder(folders) as folder:
            found = os.open(name, _READ, dir_fd=folder)
            if stat.S_ISREG(os.fstat(found).st_mode):
                return found
            os.close(found)
            raise NotFound(f"there is no object {key}")

    def read(self, key: str, start: int, end: int | None) -> bytes:
        """Give an object's bytes from `start` up to but without `end`."""
        with closing(self.reader()) as reader:
            reader.open(key, start, end)
            return b"".join(iter(reader.read, b""))

    def page(self, prefix: str, after: str, limit: int) -> list[Info]:
        """List objects in key order."""
        *folders, _ = prefix.split("/")
        if any(not name or name[0] == "." for name in folders):
            return []
        with _translated(prefix):
            try:
                with self._folder(folders) as folder:
                    base = "".join(f"{name}/" for name in folders)
                    return list(itertools.islice(_walk(folder, base, prefix, after), limit))
            except (FileNotFoundError, NotADirectoryError):
                return []

    # -------------------------------------------------------------- folders and locks

    @contextmanager
    def _folder(self, names: list[str], *, make: bool = False) -> Iterator[int]:
        """Give a descriptor of a folder under the root, never by way of a link."""
        descriptor = os.dup(self._root)
        try:
            for name in names:
                inner = _made(descriptor, name) if make else os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Exclude other threads and processes: each call locks by a descriptor of its own."""
        descriptor = os.open(name, _LOCK, 0o600, dir_fd=self._locks)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class Staged:
    """A file that is being written beside the objects. `discard` is due, whatever came of it."""

    def __init__(self, folder: int, name: str) -> None:
        self.name = name
        self.descriptor = -1
        self._folder = folder

    def open(self) -> None:
        """Create the file."""
        with _translated("a new object"):
            self.descriptor = os.open(self.name, _NEW, 0o644, dir_fd=self._folder)

    def write(self, data: bytes | bytearray) -> None:
        """Append."""
        with _translated("a new object"), memoryview(data) as rest:
            done = 0
            while done < len(rest):
                done += os.write(self.descriptor, rest[done:])

    def seal(self, stamp: int) -> None:
        """Set the file's time in nanoseconds, and bring it to the disk."""
        os.utime(self.descriptor, ns=(stamp, stamp))
        os.fsync(self.descriptor)

    def close(self) -> None:
        """Let go of the file; its name stays until it is discarded or the disk is closed."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def discard(self) -> None:
        """Forget the staged name; the object, if it was placed, stays."""
        if self.descriptor >= 0:
            self.close()
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self._folder)


class Reader:
    """One object, read in blocks. Goes on in the version that it opened."""

    BLOCK: Final = 1 << 20

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._descriptor = -1
        self._offset = self._end = 0

    def open(self, key: str, start: int, end: int | None) -> None:
        """Find the object."""
        self._descriptor = self._disk.descriptor(key)
        size = os.fstat(self._descriptor).st_size
        self._offset, self._end = start, size if end is None else min(end, size)

    def read(self) -> bytes:
        """Give the next block, empty at the end."""
        wanted = min(self.BLOCK, self._end - self._offset)
        if wanted <= 0:
            return b""
        with _translated("an object"):
            block = os.pread(self._descriptor, wanted, self._offset)
        self._offset += len(block)
        return block

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


# ------------------------------------------------------------------ one file, one folder


def _info(key: str, found: os.stat_result) -> Info:
    return Info(key, found.st_size, _etag(found), found.st_mtime)


def _etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"


def _superseded(key: str) -> Conflict:
    return Conflict(f"{key} is not the version that was to be replaced")


def _etag_at(folder: int, name: str) -> str:
    try:
        return _etag(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return ""


def _is_folder(folder: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _stripe(key: str) -> str:
    return f"{zlib.crc32(key.encode()) % _STRIPES:02d}"


def _made(parent: int, name: str) -> int:
    """Give a descriptor of a folder, made where it is absent."""
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
        os.fsync(parent)
    return os.open(name, _FOLDER, dir_fd=parent)


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        os.unlink(name, dir_fd=folder)


def _walk(folder: int, base: str, prefix: str, after: str) -> Iterator[Info]:
    """Give the objects under an open folder in key order. A folder sorts with the `/` that its keys have."""
    with os.scandir(folder) as entries:
        names = [
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
            for entry in entries
            if entry.name[0] != "." and _is_text(entry.name)
        ]
    for name in sorted(name for name in names if _concerns(base + name, prefix, after)):
        try:
            if name[-1] != "/":
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield _info(base + name, found)
                continue
            inner = os.open(name[:-1], _FOLDER, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed since it was listed
        try:
            yield from _walk(inner, base + name, prefix, after)
        finally:
            os.close(inner)


def _concerns(key: str, prefix: str, after: str) -> bool:
    """Tell whether a key, or any key in a folder (it ends with `/`), is under the prefix and beyond `after`."""
    if key[-1] != "/":
        return key > after and key.startswith(prefix)
    beyond = key > after or after.startswith(key)
    return beyond and (key.startswith(prefix) or prefix.startswith(key))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False  # bytes that are no UTF-8: not a key of ours
    return True


# ------------------------------------------------------------------ errors


@contextmanager
def _reading(key: str) -> Iterator[None]:
    """As `_translated`; what stands in the way of a key means that there is no such object."""
    with _translated(key):
        try:
            yield
        except OSError as error:
            if error.errno in _NO_PLACE or error.errno == errno.ENOENT:
                raise NotFound(f"there is no object {key}") from None
            raise


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise _meaning(error, what) from error


def _meaning(error: OSError, what: str) -> PenstockError:
    told = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _NEEDS_OPERATOR:
        return Misconfigured(f"the store may not touch {what}: {told}; check the folder's owner, mode and file system")
    if error.errno in _NO_PLACE:
        return Invalid(f"{what} can't be an object here: it lies under another object, or others lie under it")
    return Unavailable(f"the store failed at {what}: {told}")
