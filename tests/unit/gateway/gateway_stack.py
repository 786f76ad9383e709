"""A whole gateway in this process, without a socket: a SQLite ledger, a queue and a store in memory, and a tiny client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from prometheus_client import CollectorRegistry

from penstock.gateway.app import build
from penstock.gateway.services import Services, Settings
from penstock.identity import open_keyring
from penstock.ledger import open_ledger
from penstock.ledger.commands import AddWorker
from penstock.model import wire
from penstock.model.app import App
from penstock.model.fleet import Worker, WorkerState
from penstock.model.ids import Ids
from penstock.model.run import Outcome
from penstock.placement.status import AppStatus
from penstock.queue import open_queue
from penstock.run.clock import SystemClock
from penstock.serving import Broker, Catalog, Intake, Notices, Runs
from penstock.store import Signer, open_store

PUBLIC = "http://127.0.0.1:8080"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Exchange:
    """One request as an ASGI server would hand it over: `chunks` come one by one, and then nothing until `hang_up`."""

    scope: dict[str, Any]
    chunks: list[bytes]
    sent: list[dict[str, Any]] = field(default_factory=list)
    received: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    breaks: bool = False  # the connection ends in the middle of the body

    async def receive(self) -> dict[str, Any]:
        if self.received < len(self.chunks):
            self.received += 1
            more = self.breaks or self.received < len(self.chunks)
            return {"type": "http.request", "body": self.chunks[self.received - 1], "more_body": more}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if not self.hung_up.is_set():
            self.sent.append(message)
            self.more.set()

    async def until(self, wanted: Callable[[bytes], bool]) -> None:
        """Wait until a piece of the answer's body is as wanted."""
        while not any(wanted(part.get("body", b"")) for part in self.sent):
            self.more.clear()
            await self.more.wait()

    def answer(self) -> Answer:
        start, *body = self.sent
        assert start["type"] == "http.response.start"
        assert not body[-1].get("more_body"), "the body was never finished"
        headers: dict[str, str] = {}
        for name, value in start["headers"]:
            assert name == name.lower()
            headers[name.decode()] = value.decode("latin-1")
        data = b"".join(part["body"] for part in body)
        if "content-length" in headers and self.scope["method"] != "HEAD":
            assert int(headers["content-length"]) == len(data)
        return Answer(start["status"], headers, data)


def exchange(method: str, url: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None) -> Exchange:
    path, _, query = url.removeprefix(PUBLIC).partition("?")
    chunks = body if isinstance(body, list) else [body]
    given = {"host": "127.0.0.1:8080"}
    if body and not isinstance(body, list):
        given["content-length"] = str(len(body))
    given |= {name.lower(): value for name, value in (headers or {}).items()}
    return Exchange(
        {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value],
        },
        chunks,
    )


class Controller:
    """As much of a controller as the gateway sees."""

    def __init__(self) -> None:
        self.nudged: list[str] = []

    def status(self, app: str) -> AppStatus | None:
        return AppStatus(message=f"{app} rests", live=1)

    def nudge(self, app: str) -> None:
        self.nudged.append(app)


@dataclass
class Stack:
    """The gateway and what stands behind it."""

    services: Services
    controller: Controller
    app: Any

    async def ask(
        self, method: str, url: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Make one request and give its answer."""
        return await self.finish(exchange(method, url, body, headers))

    async def finish(self, asked: Exchange) -> Answer:
        await self.app(asked.scope, asked.receive, asked.send)
        return asked.answer()

    async def infer(self, body: bytes, app: str = "echo", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", f"/v1/{app}/infer", body, named)

    async def worker(self, app: str = "echo", uid: str = "w-echo-aaaaaaaaaa") -> PretendWorker:
        """Give a worker of an app, known to the ledger."""
        row = Worker(uid=uid, app=app, spec_generation=1, state=WorkerState.STARTING)
        await self.services.ledger.add_worker(AddWorker(worker=row))
        return PretendWorker(self, self.services.keyring.mint_worker(uid, app))


@dataclass
class PretendWorker:
    """A worker that speaks with the gateway as a real one does, and predicts nothing."""

    stack: Stack
    token: str
    packed: bool = True

    @property
    def headers(self) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self.token}",
            "content-type": wire.MSGPACK if self.packed else "application/json",
        }

    async def call(self, verb: str, body: msgspec.Struct) -> Answer:
        return await self.stack.ask("POST", f"/internal/v1/{verb}", self.encode(body), self.headers)

    def encode(self, body: msgspec.Struct) -> bytes:
        return msgspec.msgpack.encode(body) if self.packed else msgspec.json.encode(body)

    def decode(self, answer: Answer, kind: type) -> Any:
        assert answer.status == 200, answer.body
        return (msgspec.msgpack if self.packed else msgspec.json).decode(answer.body, type=kind)

    async def lease(self, most: int = 1, wait_s: float = 2.0) -> wire.LeaseReply:
        return self.decode(await self.call("lease", wire.LeaseRequest(max=most, wait_s=wait_s)), wire.LeaseReply)

    async def settle(self, held: wire.Assignment, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> str:
        item = wire.SettleItem(run_id=held.run_id, epoch=held.epoch, token=held.token, outcome=outcome, **more)
        reply = self.decode(await self.call("settle", wire.SettleRequest(done=(item,))), wire.SettleReply)
        return reply.done[0].code

    async def serve(self, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> wire.Assignment:
        """Take the next run and end it so."""
        (held,) = (await self.lease()).attempts
        assert await self.settle(held, outcome, **more) == "ok"
        return held


@asynccontextmanager
async def a_stack(folder: Path, *, inline_max_bytes: int = 32 * 1024, t_sync_s: float = 0.05) -> AsyncIterator[Stack]:
    """Give a gateway with one app, `echo`, and nobody who works."""
    clock = SystemClock()
    ids = Ids(clock, os.urandom)
    keyring = open_keyring(folder / "keys.json", clock=clock)
    async with AsyncExitStack() as opened:
        ledger = await opened.enter_async_context(open_ledger(f"sqlite:///{folder}/ledger.db", clock=clock))
        queue = await opened.enter_async_context(open_queue("memory:", clock=clock))
        signer = Signer(PUBLIC, [keyring.url_secret], clock)
        store = await opened.enter_async_context(open_store("memory:", clock=clock, random=os.urandom, signer=signer))
        catalog = Catalog(store, clock)
        await catalog.apply(App(name="echo", handler="echo:Echo"))
        notices = Notices()
        intake = Intake(ledger, queue, store, catalog, notices, ids=ids, clock=clock, inline_max_bytes=inline_max_bytes)
        broker = Broker(ledger, queue, store, catalog, keyring, notices, clock=clock, inline_max_bytes=inline_max_bytes)
        controller = Controller()
        services = Services(
            intake=intake,
            broker=broker,
            runs=Runs(ledger, catalog, intake, notices, ids, controller.status),
            catalog=catalog,
            ledger=ledger,
            queue=queue,
            store=store,
            compute=None,
            controller=controller,
            keyring=keyring,
            clock=clock,
            ids=ids,
            settings=Settings(public_url=PUBLIC, t_sync_s=t_sync_s, inline_max_bytes=inline_max_bytes),
            registry=CollectorRegistry(),
        )
        yield Stack(services, controller, build(services))
