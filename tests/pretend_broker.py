"""A broker of one app that speaks `model/wire.py` over real HTTP and keeps its rules: epochs, leases, alone, cancel.

It is small and exact where the worker can tell the difference; it keeps everything in memory and has no other app,
tenant or durability.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from aiohttp import web

from penstock.model import wire
from penstock.model.run import Outcome


@dataclass
class PretendRun:
    id: str
    body: bytes
    content_type: str = "application/json"
    tenant: str = "default"
    state: str = "QUEUED"
    epoch: int = 0
    alone: bool = False
    stored: bool = False  # its body is behind a URL
    deadline_s: float = 60.0
    lease_s: float = 30.0
    checkpoint: bytes | None = None
    failures: int = 0
    endings: list[wire.SettleItem] = field(default_factory=list)
    progress: list[tuple[float, str]] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)

    @property
    def ending(self) -> wire.SettleItem:
        return self.endings[-1]


def result_of(item: wire.SettleItem) -> bytes:
    data = item.result or b""
    return gzip.decompress(data) if item.encoding == "gzip" else data


async def eventually(holds: Callable[[], object], within: float = 10.0) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class PretendBroker:
    def __init__(self, *, max_attempts: int = 3) -> None:
        self.runs: dict[str, PretendRun] = {}
        self.line: deque[str] = deque()
        self.calls: list[tuple[str, Any]] = []  # every request, decoded
        self.tokens: list[str] = []  # the bearer tokens seen
        self.deaths: list[wire.ReplicaDied] = []
        self.objects: dict[str, bytes] = {}
        self.put_headers: list[dict[str, str]] = []
        self.max_attempts = max_attempts
        self.draining = False
        self.exit_granted = True
        self.fresh_token: str | None = None
        self.down = False  # answers 503
        self.silent = False  # takes requests and answers none
        self.status: int | None = None  # answers this to everything
        self.refuse_settles_with: int | None = None  # a 4xx for settles that carry a result
        self.broken_store = 0  # this many GETs and PUTs are 503
        self.expired_urls = 0  # this many GETs and PUTs are 403
        self.taken_keys: set[str] = set()
        self.url = ""
        self._changed = asyncio.Condition()
        self._closing = False
        self._urls_given = 0
        self._runner: web.AppRunner | None = None

    # ------------------------------------------------------------------ what tests do

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        for name, handle in {
            "lease": self._lease,
            "settle": self._settle,
            "extend": self._extend,
            "checkpoint": self._checkpoint,
            "urls": self._urls,
            "exit": self._exit,
            "replica-died": self._died,
        }.items():
            app.router.add_post(f"/internal/v1/{name}", self._door(name, handle))
        app.router.add_get("/store/{key:.*}", self._get)
        app.router.add_put("/store/{key:.*}", self._put)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        self._closing = True
        await self._notify()
        await self._runner.cleanup()

    async def submit(self, *bodies: bytes | dict[str, Any], **fields: Any) -> list[PretendRun]:
        runs = []
        for body in bodies:
            data = body if isinstance(body, bytes) else msgspec.json.encode(body)
            run = PretendRun(f"run-{len(self.runs)}", data, **fields)
            if run.stored:
                self.objects[f"body/{run.id}"] = data
            self.runs[run.id] = run
            self.line.append(run.id)
            runs.append(run)
        await self._notify()
        return runs

    async def drain(self) -> None:
        self.draining = True
        await self._notify()

    async def until(self, holds: Any, within: float = 20.0) -> None:
        async with asyncio.timeout(within), self._changed:
            await self._changed.wait_for(holds)

    async def settled(self, *runs: PretendRun, within: float = 20.0) -> None:
        await self.until(
            lambda: all(run.state not in {"QUEUED", "RUNNING"} for run in runs or self.runs.values()), within
        )

    async def running(self, *runs: PretendRun) -> None:
        await self.until(lambda: all(run.state == "RUNNING" for run in runs))

    def cancel(self, run: PretendRun) -> None:
        run.state = "CANCELLED"

    def take_away(self, run: PretendRun) -> None:
        """Give the run to another worker, as after a lost lease."""
        run.epoch += 1

    def requests(self, route: str) -> list[Any]:
        return [request for name, request in self.calls if name == route]

    # ------------------------------------------------------------------ the wire

    def _door(self, name: str, handle: Any) -> Any:
        kinds = {
            "lease": wire.LeaseRequest,
            "settle": wire.SettleRequest,
            "extend": wire.ExtendRequest,
            "checkpoint": wire.CheckpointRequest,
            "urls": wire.UrlsRequest,
            "exit": wire.ExitRequest,
            "replica-died": wire.ReplicaDied,
        }

        async def enter(request: web.Request) -> web.Response:
            assert request.content_type == wire.MSGPACK
            asked = msgspec.msgpack.decode(await request.read(), type=kinds[name])
            self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
            self.calls.append((name, asked))
            await self._notify()
            if self.silent:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._closing)
            if self.down or self.status:
                return web.Response(status=self.status or 503)
            reply = await handle(asked)
            if isinstance(reply, web.Response):
                return reply
            return web.Response(body=msgspec.msgpack.encode(reply), content_type=wire.MSGPACK)

        return enter

    async def _lease(self, asked: wire.LeaseRequest) -> wire.LeaseReply:
        return await self._give(asked)

    async def _give(self, want: wire.Want) -> wire.LeaseReply:
        """Answer a wish for work; all looks and waits are under one lock, so no change is missed."""
        deadline = time.monotonic() + want.wait_s
        async with self._changed:
            while (reply := self._give_now(want)) is None:
                try:
                    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                        await self._changed.wait()
                except TimeoutError:
                    return wire.LeaseReply()
            self._changed.notify_all()
        return reply

    def _give_now(self, want: wire.Want) -> wire.LeaseReply | None:
        if self.draining or self._closing:
            return wire.LeaseReply(exit=self.draining)
        if not self.line:
            return None
        if self.runs[self.line[0]].alone:
            if not want.idle:
                return wire.LeaseReply(drain_first=True)
            return wire.LeaseReply(attempts=(self._grant(self.line.popleft()),))
        given = []
        while self.line and len(given) < want.max and not self.runs[self.line[0]].alone:
            given.append(self._grant(self.line.popleft()))
        return wire.LeaseReply(attempts=tuple(given))

    def _grant(self, run_id: str) -> wire.Assignment:
        run = self.runs[run_id]
        run.state = "RUNNING"
        run.epoch += 1
        return wire.Assignment(
            run_id=run.id,
            epoch=run.epoch,
            token=f"{run.id}/{run.epoch}",
            tenant=run.tenant,
            key=run.id,
            lease_s=run.lease_s,
            deadline_s=run.deadline_s,
            alone=run.alone,
            content_type=run.content_type,
            body=None if run.stored else run.body,
            body_url=f"{self.url}/store/body/{run.id}?sig=a%2Fb" if run.stored else None,
            checkpoint=run.checkpoint,
        )

    async def _settle(self, asked: wire.SettleRequest) -> wire.SettleReply | web.Response:
        if self.refuse_settles_with and any(item.result for item in asked.done):
            return web.Response(status=self.refuse_settles_with)
        done = tuple(wire.SettleStatus(run_id=item.run_id, code=self._end(item)) for item in asked.done)
        await self._notify()
        more = await self._give(asked.want) if asked.want else wire.LeaseReply()
        return wire.SettleReply(done=done, attempts=more.attempts, drain_first=more.drain_first, exit=more.exit)

    def _end(self, item: wire.SettleItem) -> str:
        run = self.runs[item.run_id]
        assert item.token == f"{item.run_id}/{item.epoch}"
        if item.epoch != run.epoch:
            return "stale"
        if run.state == "CANCELLED":
            return "cancelled"
        if run.state != "RUNNING":
            return "already"
        run.endings.append(item)
        if item.outcome is Outcome.SUCCEEDED:
            assert (item.result is None) != (item.result_key is None)
            run.state = "SUCCEEDED"
        elif item.outcome is Outcome.FAILED:
            run.state = "FAILED"
        else:
            run.failures += item.outcome is Outcome.RETRY
            run.state = "FAILED" if run.failures >= self.max_attempts else "QUEUED"
            if run.state == "QUEUED":
                self.line.appendleft(run.id)
        return "ok"

    async def _extend(self, asked: wire.ExtendRequest) -> wire.ExtendReply:
        lost, cancelled = [], []
        for item in asked.attempts:
            run = self.runs[item.run_id]
            if run.epoch != item.epoch or run.state not in {"RUNNING", "CANCELLED"}:
                lost.append(run.id)
            elif run.state == "CANCELLED":
                cancelled.append(run.id)
            else:
                run.beats.append(time.monotonic())
                if item.progress is not None:
                    run.progress.append((item.progress, item.note))
        await self._notify()
        return wire.ExtendReply(
            lost=tuple(lost), cancelled=tuple(cancelled), exit=self.draining, token=self.fresh_token
        )

    async def _checkpoint(self, asked: wire.CheckpointRequest) -> wire.CheckpointReply:
        run = self.runs[asked.run_id]
        if run.epoch != asked.epoch:
            return wire.CheckpointReply(code="lost")
        if run.state == "CANCELLED":
            return wire.CheckpointReply(code="cancelled")
        run.checkpoint = asked.data
        await self._notify()
        return wire.CheckpointReply(code="ok")

    async def _urls(self, asked: wire.UrlsRequest) -> wire.UrlsReply:
        run = self.runs[asked.run_id]
        self._urls_given += 1
        key = f"results/{run.id}.gz" if self._urls_given == 1 else f"results/{run.id}.{self._urls_given}.gz"
        body_url = f"{self.url}/store/body/{run.id}?fresh=1" if run.stored else None
        if asked.result_bytes is None:
            return wire.UrlsReply(body_url=body_url)
        headers = {"Content-Type": asked.content_type, "Content-Length": str(asked.result_bytes), "If-None-Match": "*"}
        return wire.UrlsReply(
            body_url=body_url, result_url=f"{self.url}/store/{key}", result_key=key, result_headers=headers
        )

    async def _exit(self, _: wire.ExitRequest) -> wire.ExitReply:
        await self._notify()
        return wire.ExitReply(granted=self.exit_granted)

    async def _died(self, asked: wire.ReplicaDied) -> wire.ExitReply:
        self.deaths.append(asked)
        await self._notify()
        return wire.ExitReply(granted=True)

    # ------------------------------------------------------------------ the store

    async def _get(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        if (refused := self._store_refuses()) is not None:
            return refused
        data = self.objects.get(request.match_info["key"])
        return web.Response(status=404) if data is None else web.Response(body=data)

    async def _put(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        key = request.match_info["key"]
        data = await request.read()
        if (refused := self._store_refuses()) is not None:
            return refused
        if key in self.objects or key in self.taken_keys:
            return web.Response(status=412)
        self.objects[key] = data
        self.put_headers.append(dict(request.headers))
        return web.Response()

    def _store_refuses(self) -> web.Response | None:
        if self.broken_store:
            self.broken_store -= 1
            return web.Response(status=503)
        if self.expired_urls:
            self.expired_urls -= 1
            return web.Response(status=403)
        return None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
