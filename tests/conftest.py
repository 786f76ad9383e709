"""What holds for every test: it leaves no process and no task behind; a service that it needs is there, or it says so."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

GRACE_S = float(os.environ.get("PENSTOCK_TEST_GRACE_S", "3"))  # for what was told to end just before the test did
ENDED = "<ended>"
# Python starts these once a process and keeps them, on purpose.
PASSED_OVER = (ENDED, "multiprocessing.resource_tracker", "multiprocessing.forkserver")


@pytest.fixture(scope="session")
def need():
    """Give `need(what, present)`: at home a missing service skips the test; in continuous integration it fails it."""

    def need(what: str, present: object) -> None:
        if present:
            return
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing, and CI=true says that it must be there", pytrace=False)
        pytest.skip(f"{what} is missing")

    return need


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a child process or an asyncio task of its own still lives.

    What a fixture of a wider scope started before the test is not the test's own.
    """
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("no_task_left_behind")
    before = _children()
    yield
    left = _outlasting(before)
    if left:
        shown = [f"{pid}: {command}" for pid, command in sorted(left.items())]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pytest.fail("child processes are left behind:\n" + "\n".join(shown), pytrace=False)


@pytest.fixture
async def no_task_left_behind():
    """Fail an asyncio test after which a task of its own still runs."""
    before = asyncio.all_tasks()
    yield
    left = _unfinished(before)
    if left:
        _, left = await asyncio.wait(left, timeout=GRACE_S)
    if left:
        shown = [repr(task.get_coro()) for task in left]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        pytest.fail("tasks are left behind:\n" + "\n".join(shown), pytrace=False)


def _unfinished(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - before - {asyncio.current_task()}


def _outlasting(before: dict[int, str]) -> dict[int, str]:
    patience = time.monotonic() + GRACE_S
    while True:
        left = {pid: command for pid, command in _children().items() if pid not in before}
        if not left or time.monotonic() > patience:
            return left
        time.sleep(0.02)


def _children() -> dict[int, str]:
    """Give this process's own children, with their command lines; one that has ended and waits to be reaped is none."""
    found = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in listing.read_text().split():
                with suppress(OSError):
                    found[int(pid)] = _command(Path("/proc", pid))
    return {pid: command for pid, command in found.items() if not any(word in command for word in PASSED_OVER)}


def _command(process: Path) -> str:
    name, _, fields = process.joinpath("stat").read_text().partition("(")[2].rpartition(")")
    if fields.split()[0] == "Z":
        return ENDED
    # A process that has only just been started has no arguments yet.
    return process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip() or name
