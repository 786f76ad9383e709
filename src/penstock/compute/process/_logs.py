"""Workers' logs: files that the workers write themselves, so that no line is lost when the platform dies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from penstock.errors import NotFound

__all__ = ["Logs", "last_lines"]

POLL_S: Final = 0.25
BLOCK: Final = 64 * 1024
MOST_TAIL: Final = 4 * 1024 * 1024
LONGEST_LINE: Final = 1024 * 1024


class Logs:
    """A folder of logs, `{app}/{uid}.log`, each of at most about `cap` bytes and one older part of as much.

    A file is cut by copying its end to `.log.1` and emptying it, for its writer may hold it open (and appends, so it
    goes on at the new end). Lines written in the instant between the two are lost.
    """

    def __init__(self, folder: Path, *, cap: int, kept: int) -> None:
        self._folder = folder
        self._cap = cap
        self._kept = kept
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, app: str, name: str) -> Path:
        """Give the file for a worker's log, in a folder that is there."""
        folder = self._folder / app
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder / f"{name}.log"

    def find(self, uid: str) -> Path:
        """Give the file that a worker, perhaps forgotten, wrote to. Raises `NotFound`."""
        for app in self._folder.iterdir():
            if (path := app / f"{uid}.log").is_file():
                return path
        raise NotFound(f"there is no log of a worker {uid}")

    def tidy(self, live: Collection[Path]) -> None:
        """Cut logs where they grew over the cap, and remove the oldest of those whose worker has ended."""
        for path in self._folder.glob("*/*.log"):
            with suppress(FileNotFoundError):
                if path.stat().st_size > self._cap:
                    _cut(path, self._cap)
        for app in self._folder.iterdir():
            past = sorted((path for path in app.glob("*.log") if path not in live), key=_modified)
            for path in past[: max(0, len(past) - self._kept)]:
                path.unlink(missing_ok=True)
                _older(path).unlink(missing_ok=True)

    async def read(self, path: Path, tail: int, follow: Callable[[], bool]) -> AsyncGenerator[str]:
        """Give the last `tail` lines, then new ones as long as `follow` says so, looked for four times a second."""
        lines, place = await asyncio.to_thread(_tail, path, tail, growing=follow())
        if len(lines) < tail:
            before, _ = await asyncio.to_thread(_tail, _older(path), tail - len(lines))
            lines = before + lines
        for line in lines:
            yield line
        rest = b""
        while True:
            last = not follow()
            fresh, place = await asyncio.to_thread(_since, path, place)
            # Without its end a line is held back, unless nobody is left to finish it.
            *whole, rest = (rest + fresh).split(b"\n")
            if rest and (last or len(rest) > LONGEST_LINE):
                whole, rest = [*whole, rest], b""
            for finished in whole:
                yield _text(finished)
            if not fresh and last:
                return
            if not fresh:
                await asyncio.sleep(POLL_S)


def _older(path: Path) -> Path:
    return path.with_suffix(".log.1")


def _cut(path: Path, cap: int) -> None:
    """Empty a log whose last `cap` bytes are kept as its older part, if the disk has room for them."""
    with suppress(OSError), path.open("rb") as log:
        log.seek(-cap, os.SEEK_END)
        _older(path).write_bytes(log.read(cap))
    os.truncate(path, 0)


def last_lines(path: Path, count: int, most: int) -> str:
    """Give the end of a log in at most so many lines and characters; empty where there is none."""
    with suppress(OSError):
        lines, _ = _tail(path, count)
        return "\n".join(lines)[-most:]
    return ""


def _tail(path: Path, count: int, *, growing: bool = False) -> tuple[list[str], int]:
    """Give the last lines of a file, and where its reading goes on: a last line that may grow is left for then."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return [], 0
    with file:
        place = end = file.seek(0, os.SEEK_END)
        found = b""
        while place and found.count(b"\n") <= count and end - place < MOST_TAIL:
            step = min(BLOCK, place)
            place = file.seek(place - step)
            found = file.read(step) + found
    lines = found.split(b"\n")
    unfinished = lines.pop()
    if unfinished and not growing:
        lines.append(unfinished)
        unfinished = b""
    return [_text(line) for line in lines[max(0, len(lines) - count) :]], end - len(unfinished)


def _since(path: Path, place: int) -> tuple[bytes, int]:
    """Give what was written after a place, and the place after that; a file that was cut is read from its start."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(place if place <= size else 0)
            fresh = file.read(MOST_TAIL)
            return fresh, file.tell()
    except FileNotFoundError:
        return b"", place


def _text(line: bytes) -> str:
    """Give a line as a terminal would show it: what a progress bar wrote over is gone."""
    return line.decode("utf-8", "replace").rstrip("\r").rsplit("\r", 1)[-1]


def _modified(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
