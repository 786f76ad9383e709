"""The platform is killed or stopped and comes back: what it accepted is there, what ran goes on, nothing runs twice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from walking import ECHO, GATED, Caller, Folder, plain_http, until


class Up(Caller, Folder):
    """`penstock up` as a process of its own, which can be killed and started again over the same folder."""

    def __init__(self, path: Path, http: aiohttp.ClientSession, port: int) -> None:
        Caller.__init__(self, f"http://127.0.0.1:{port}", http)
        Folder.__init__(self, path)
        self.port = port
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it serves."""
        flags = ("--port", str(self.port), "--state", str(self.path / "state"), "--log-level", "error")
        with (self.path / "up.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "penstock.run.program", "up", *flags, stdout=log, stderr=log, cwd=self.path
            )
        await until(self._ready)

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.path / "up.log").read_text()[-4000:]
        with contextlib.suppress(aiohttp.ClientError, OSError):
            return (await self.ask("GET", "/health/ready")).status == 200
        return False

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Send it a signal and wait for its end; gives its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()

    async def app(self, source: str, **changes: object) -> None:
        """Apply the app `echo`."""
        text = self.spec("echo", source, **changes).encode()
        answer = await self.ask("PUT", "/v1/apps/echo", text, content_type="application/yaml")
        assert answer.status == 201, answer.body


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    """A running `penstock up`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    async with plain_http() as http:
        up = Up(tmp_path, http, port)
        await up.start()
        try:
            yield up
        finally:
            up.open("all")
            if up.process is not None and up.process.returncode is None:
                assert await up.end(signal.SIGTERM) == 0


async def test_what_was_accepted_survives_a_kill_and_is_executed(up: Up) -> None:
    await up.app(ECHO)
    assert (await up.ask("POST", "/v1/apps/echo/pause")).status == 200
    tickets = [await up.submit("echo", {"n": n}) for n in range(20)]
    large = await up.submit("echo", {"n": "x" * 100_000})
    await up.end()
    await up.start()
    assert (await up.poll("echo", tickets[0].ticket, wait=0)).json()["state"] == "QUEUED"
    assert (await up.submit("echo", {"n": 0})).run_id == tickets[0].run_id  # its key is known
    assert (await up.ask("POST", "/v1/apps/echo/resume")).status == 200
    answers = [await up.poll("echo", one.ticket) for one in (*tickets, large)]
    assert [answer.status for answer in answers] == [200] * 21
    assert len(up.journal) == 21


async def test_a_run_goes_on_over_a_kill_of_the_platform_and_is_not_run_twice(up: Up) -> None:
    await up.app(GATED, deadlines="{ leaseSeconds: 1 }")
    ticket = await up.submit("echo", {"n": 1})
    await up.noted("began 1")
    before = (await up.record(ticket.run_id))["attempts"]
    await up.end()
    await up.start()
    up.open("go")
    assert (await up.poll("echo", ticket.ticket)).json() == {"n": 1}
    after = (await up.record(ticket.run_id))["attempts"]
    assert [(one["epoch"], one["worker_uid"]) for one in after] == [(one["epoch"], one["worker_uid"]) for one in before]
    assert up.journal == ["began 1"]


async def test_a_result_is_still_there_after_a_kill(up: Up) -> None:
    await up.app(ECHO)
    done = await up.infer("echo", {"n": 1})
    await up.end()
    await up.start()
    again = await up.infer("echo", {"n": 1})
    assert (again.body, again.headers["penstock-cache"], again.run_id) == (done.body, "hit", done.run_id)
    assert up.journal == ["ran"]


async def test_a_stop_in_good_order_gives_back_what_is_not_finished(up: Up) -> None:
    await up.app(
        """
        def predict(self, batch):
            note("began")
            while not current_run().stopping and not is_open("go"):
                time.sleep(0.005)
            if is_open("go"):
                return batch
            raise Retry("stopping")
        """
    )
    ticket = await up.submit("echo", {"n": 1})
    await up.noted("began")
    waiting = asyncio.create_task(up.poll("echo", ticket.ticket, wait=60))
    await asyncio.sleep(0)
    assert await up.end(signal.SIGTERM) == 0
    with contextlib.suppress(aiohttp.ClientError):  # a waiter is let go with its ticket, if its request had arrived
        assert (await waiting).status == 202
    up.open("go")
    await up.start()
    assert (await up.poll("echo", ticket.ticket)).status == 200
    record = await up.record(ticket.run_id)
    assert not record.get("failures")
    assert [one["state"] for one in record["attempts"]] == ["LOST", "SUCCEEDED"]
