"""A running platform with real workers, and the few words in which a test speaks with it."""

from __future__ import annotations

import asyncio
import io
import os
import textwrap
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from penstock.client.streams import ServerEvent, server_events
from penstock.ledger.commands import AddWorker
from penstock.model.fleet import Worker, WorkerState
from penstock.model.run import Outcome, Run
from penstock.run.platform import Platform, running
from penstock.run.settings import Settings, read_settings

Found = TypeVar("Found")

PATIENCE_S = 20.0
LOOK_S = 0.01

# What every handler of these tests can say: `note` writes a line that outlives a kill, `hold` waits for the test.
PRELUDE = """
import asyncio, os, pathlib, sys, time
from penstock import Handler, InvalidInput, Response, Retry, current_run, current_runs

WALK = pathlib.Path(__file__).parent


def note(line):
    with open(WALK / "journal", "ab", buffering=0) as journal:
        journal.write(f"{line}\\n".encode())


def is_open(gate):
    return (WALK / f"{gate}.open").exists() or (WALK / "all.open").exists()


def hold(gate):
    while not is_open(gate):
        time.sleep(0.005)
"""
SPEC = """
name: {name}
handler: {path}:Model
worker: {{ idleExitSeconds: 30 }}
scaling: {{ maxInstances: 1, scaleUpCooldownSeconds: 0 }}
retry: {{ backoffSeconds: 0.05 }}
deadlines: {{ leaseSeconds: 5 }}
"""
# Answers what it got, and notes it.
ECHO = """
def predict(self, batch):
    for item in batch:
        note("ran")
    return batch
"""
# Notes that it began with an item, and then waits for the test.
GATED = """
def predict(self, batch):
    for item in batch:
        note(f"began {item['n']}")
        hold("go")
    return batch
"""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def run_id(self) -> str:
        return self.headers["penstock-run-id"]

    @property
    def ticket(self) -> str:
        return self.headers["penstock-ticket"]

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Give the problem document, checked to be one and of this status and code."""
        document = self.json()
        assert self.headers["content-type"] == "application/problem+json"
        assert (self.status, document["status"], document["code"]) == (status, status, code), document
        assert document["type"].startswith("urn:penstock:problem:")
        assert document["title"]
        assert document["detail"]
        assert document["request_id"] == self.headers["x-request-id"]
        assert isinstance(document["retryable"], bool)
        return document


class Caller:
    """A client of one address that hides nothing: statuses, headers and bytes as they come."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, /, **headers: str) -> Answer:
        """Make one request; header names are written with underscores, a dict or list is sent as JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict | list):
            body = msgspec.json.encode(body)
            named.setdefault("content-type", "application/json")
        data = io.BytesIO(body) if isinstance(body, bytes) and body else body
        async with self.http.request(method, self.url + path, data=data, headers=named) as reply:
            return Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read())

    async def infer(self, app: str, body: Any, /, *, wait: int = 20, **headers: str) -> Answer:
        """Submit, and wait so many seconds for the result."""
        return await self.ask("POST", f"/v1/{app}/infer", body, prefer=f"wait={wait}", **headers)

    async def submit(self, app: str, body: Any, /, **headers: str) -> Answer:
        """Submit and don't wait; gives the ticket's answer."""
        answer = await self.infer(app, body, wait=0, **headers)
        assert answer.status == 202, answer.body
        return answer

    async def poll(self, app: str, ticket: str, /, *, wait: int = 20, **headers: str) -> Answer:
        """Ask for the result of a ticket, waiting so many seconds for it."""
        return await self.ask("GET", f"/v1/{app}/status/{quote(ticket, safe='')}", prefer=f"wait={wait}", **headers)

    async def cancel(self, app: str, ticket: str) -> Answer:
        """Cancel the run of a ticket."""
        return await self.ask("DELETE", f"/v1/{app}/status/{quote(ticket, safe='')}")

    async def record(self, run_id: str) -> dict[str, Any]:
        """Give a run's full record."""
        answer = await self.ask("GET", f"/v1/runs/{run_id}")
        assert answer.status == 200, answer.body
        return answer.json()

    async def charged(self, run_id: str) -> int:
        """Give how many failed attempts are held against a run."""
        return int((await self.record(run_id)).get("failures") or 0)

    async def reaches(self, run_id: str, state: str, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until a run is in a state; gives its record then."""

        async def there() -> dict[str, Any] | None:
            record = await self.record(run_id)
            return record if record["state"] == state else None

        return await until(there, within_s)

    @asynccontextmanager
    async def events(self, run_id: str, **headers: str) -> AsyncIterator[AsyncGenerator[ServerEvent]]:
        """Give a run's stream of events."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(f"{self.url}/v1/runs/{run_id}/events", headers=named) as reply:
            assert (reply.status, reply.content_type) == (200, "text/event-stream")
            stream = server_events(reply.content.iter_any())
            try:
                yield stream
            finally:
                await stream.aclose()


class Folder:
    """Where a walk takes place: the platform's state, handlers, what they wrote down, and gates that hold them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def spec(self, name: str, source: str, **changes: Any) -> str:
        """Give the YAML of an app whose handler has these methods; `changes` are its other fields, flat."""
        path = self.path / f"{name.replace('-', '_')}_{zlib.crc32(source.encode()):x}.py"
        path.write_text(PRELUDE + "\n\nclass Model(Handler):\n" + textwrap.indent(textwrap.dedent(source), "    "))
        return self.spec_of(name, str(path), **changes)

    def spec_of(self, name: str, path: str, **changes: Any) -> str:
        """Give the YAML of an app whose handler is in this file."""
        lines = SPEC.format(name=name, path=path).strip().splitlines()
        sections = {line.partition(":")[0]: line for line in lines}
        sections |= {key: f"{key}: {value}" for key, value in changes.items()}
        return "\n".join(sections.values())

    @property
    def journal(self) -> list[str]:
        """What handlers noted, in order."""
        path = self.path / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def open(self, gate: str) -> None:
        """Let go on whoever holds at a gate."""
        (self.path / f"{gate}.open").touch()

    @property
    def environ(self) -> dict[str, str]:
        """What platform and workers find in their environment."""
        return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}

    async def noted(self, line: str, times: int = 1) -> None:
        """Wait until a handler has noted a line so often."""
        await until(lambda: self.journal.count(line) >= times)


class Walk(Caller, Folder):
    """A platform that runs in this process with workers that don't, and a client of it."""

    def __init__(self, platform: Platform, http: aiohttp.ClientSession, path: Path) -> None:
        Caller.__init__(self, platform.url, http)
        Folder.__init__(self, path)
        self.platform = platform

    async def app(self, name: str = "echo", source: str = ECHO, **changes: Any) -> Answer:
        """Apply an app whose handler has these methods."""
        return await self.apply(name, self.spec(name, source, **changes))

    async def apply(self, name: str, text: str, **headers: str) -> Answer:
        """Apply an app's YAML."""
        answer = await self.ask("PUT", f"/v1/apps/{name}", text.encode(), content_type="application/yaml", **headers)
        assert answer.status in (200, 201), answer.body
        return answer

    async def wish(self, name: str, verb: str) -> dict[str, Any]:
        """Pause, resume or drain an app."""
        answer = await self.ask("POST", f"/v1/apps/{name}/{verb}")
        assert answer.status == 200, answer.body
        return answer.json()

    async def workers(self, app: str | None = None, *, live: bool = True) -> list[Worker]:
        """Give the workers, newest first."""
        return await self.platform.ledger.workers(app=app, live=live)

    async def holder(self, run_id: str) -> Worker:
        """Give the live worker that holds a run, once its process is known."""

        async def found() -> Worker | None:
            attempts = await self.platform.ledger.attempts(run_id)
            row = await self.platform.ledger.worker(attempts[-1].worker_uid) if attempts else None
            return row if row is not None and row.pid is not None and row.ended_at is None else None

        return await until(found)

    async def no_worker(self, within_s: float = PATIENCE_S) -> None:
        """Wait until no worker lives."""
        await until(self._deserted, within_s)

    async def _deserted(self) -> bool:
        return not await self.workers()

    async def run(self, run_id: str) -> Run:
        """Give a run's record as the ledger has it."""
        found = await self.platform.ledger.run(run_id)
        assert found is not None
        return found

    async def refused(self, app: str, body: Any, status: int, code: str) -> dict[str, Any]:
        """Submit what must end as this problem, and give the problem."""
        return (await self.infer(app, body)).problem(status, code)


class PretendWorker:
    """A worker that does what a test tells it, over HTTP and with a real token."""

    def __init__(self, walk: Walk, uid: str, app: str = "echo") -> None:
        self.walk = walk
        self.token = walk.platform.keyring.mint_worker(uid, app)
        self.uid = uid

    async def call(self, verb: str, body: Any) -> Answer:
        return await self.walk.ask("POST", f"/internal/v1/{verb}", body, authorization=f"Bearer {self.token}")

    async def lease(self, most: int = 1) -> list[dict[str, Any]]:
        answer = await self.call("lease", {"max": most, "wait_s": 5.0})
        return list(answer.json()["attempts"])

    async def settle(self, held: dict[str, Any], result: str = "bm8=", **changes: Any) -> str:
        item = {name: held[name] for name in ("run_id", "epoch", "token")}
        item |= {"outcome": Outcome.SUCCEEDED, "result": result, **changes}
        return str((await self.call("settle", {"done": [item]})).json()["done"][0]["code"])


async def pretend(walk: Walk, uid: str, app: str = "echo") -> PretendWorker:
    """Give a pretend worker whose row is in the ledger."""
    row = Worker(uid=uid, app=app, spec_generation=1, state=WorkerState.STARTING)
    await walk.platform.ledger.add_worker(AddWorker(worker=row))
    return PretendWorker(walk, uid, app)


async def until(
    condition: Callable[[], Found | None] | Callable[[], Awaitable[Found | None]], within_s: float = PATIENCE_S
) -> Found:
    """Give the first true thing that a condition gives; fail when it takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        found: Any = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert loop.time() < deadline, f"{condition} did not come true in {within_s} s"
        await asyncio.sleep(LOOK_S)


def plain_http() -> aiohttp.ClientSession:
    """Give a session that asks for nothing compressed and unpacks nothing by itself."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=60), headers={"Accept-Encoding": "identity"}, auto_decompress=False
    )


def settings_for(folder: Path, **changes: Any) -> Settings:
    """Give the settings of a platform that keeps all in a folder and looks often."""
    flags = {"state": str(folder / "state"), "port": 0, "tick_seconds": 0.1, "log_level": "error", **changes}
    return read_settings({"XDG_STATE_HOME": str(folder)}, flags=flags)


@asynccontextmanager
async def walking(folder: Path, **changes: Any) -> AsyncIterator[Walk]:
    """Give a platform, a client of it and a folder; at the end whoever holds is let go and the workers are ended."""
    places = Folder(folder)
    hurry = asyncio.Event()
    async with (
        running(settings_for(folder, **changes), environ=places.environ, hurry=hurry) as platform,
        plain_http() as http,
    ):
        yield Walk(platform, http, folder)
        places.open("all")
        hurry.set()
