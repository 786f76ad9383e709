"""The platform's parts in one process: opened, joined to their neighbours, and let go again in reverse."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from penstock.compute import Compute, open_compute
from penstock.errors import PenstockError
from penstock.gateway.app import build
from penstock.gateway.asgi import App
from penstock.gateway.endpoint import PUBLIC
from penstock.gateway.routes import ENDPOINTS
from penstock.gateway.services import Services
from penstock.gateway.services import Settings as GatewaySettings
from penstock.identity import Keyring, open_keyring
from penstock.ledger import Ledger, open_ledger
from penstock.model.ids import Clock, Ids, Randomness
from penstock.placement import Afar, Controller, Outfit, Parts
from penstock.queue import Queue, open_queue
from penstock.serving import Broker, Catalog, Intake, Notices, Runs, hear
from penstock.store import Signer, Store, open_store

from .clock import SystemClock
from .door import Server, address, listen, refuse_open_doors
from .drain import drain
from .helm import Helm
from .roles import EVERY_ROLE, Role, Roles, refuse_private_parts, worker_api
from .settings import Settings

__all__ = ["Bridge", "Platform", "running", "serve_until_told"]

_log = structlog.get_logger("penstock.platform")
_SEEN_EVERY_S: Final = 5.0
_CATALOG_EVERY_S: Final = 5.0
_LOOK_EVERY_S: Final = 2.0


class Bridge(msgspec.Struct, frozen=True):
    """What a process has that has the controller's role: where workers run, and who decides on them."""

    compute: Compute
    controller: Controller


class Platform(msgspec.Struct, frozen=True):
    """The opened parts of one process, for whoever runs or tests it."""

    settings: Settings
    roles: Roles
    url: str
    keyring: Keyring
    ledger: Ledger
    queue: Queue
    store: Store
    catalog: Catalog
    notices: Notices
    intake: Intake
    broker: Broker
    runs: Runs
    helm: Helm
    bridge: Bridge | None
    broken: asyncio.Future[None]  # has the exception of a part that must not end and did
    closing: asyncio.Event  # set once the workers are at rest: live streams end

    @property
    def controller(self) -> Controller:
        """The controller of a process that has its role."""
        return self._bridged.controller

    @property
    def compute(self) -> Compute:
        """Where workers run, in a process that starts them."""
        return self._bridged.compute

    @property
    def _bridged(self) -> Bridge:
        if self.bridge is None:
            raise LookupError(f"this process has not the role {Role.CONTROLLER}")
        return self.bridge


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surroundings:
    """What the parts are opened with."""

    stack: AsyncExitStack
    settings: Settings
    roles: Roles
    url: str
    environ: Mapping[str, str]
    clock: Clock
    random: Randomness
    ids: Ids


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    roles: Roles = EVERY_ROLE,
    clock: Clock | None = None,
    random: Randomness = os.urandom,
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[Platform]:
    """Give the running platform, or the part of it with these roles, in this process; on leaving, everything stops.

    Workers of this process are asked to finish and are given `drain_seconds`, or until `hurry` is set; what they still
    hold then goes back to the queue. A process without the gateway's role serves its probes and metrics only.

    Raises:
        Misconfigured: a setting must change first; the detail says which.
    """
    refuse_open_doors(settings)
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        url = settings.public_url or address(settings.host, listener.getsockname()[1])
        around = _Surroundings(
            stack=stack,
            settings=settings,
            roles=roles,
            url=url,
            environ=environ,
            clock=clock,
            random=random,
            ids=Ids(clock, random),
        )
        platform = await _assemble(around)
        server = Server(_app(platform, around))
        stack.push_async_callback(_stop_server, server, _vital(server.serve(sockets=[listener]), platform))
        stack.callback(platform.closing.set)
        stack.push_async_callback(_come_to_rest, platform, hurry or asyncio.Event())
        if platform.bridge is not None:
            stack.push_async_callback(_cancel, _vital(platform.bridge.controller.run(), platform))
        for pulse in _pulses(platform):
            stack.push_async_callback(_cancel, _vital(pulse, platform))
        yield platform


async def _come_to_rest(platform: Platform, hurry: asyncio.Event) -> None:
    """Let go of those who wait, and see the workers off that are this process's own."""
    platform.notices.release()
    if platform.bridge is not None:
        await drain(platform, platform.settings.drain_seconds, hurry)


# ------------------------------------------------------------------ the parts


async def _assemble(around: _Surroundings) -> Platform:
    settings, clock, ids = around.settings, around.clock, around.ids
    keyring = open_keyring(settings.keys, clock=clock)
    ledger, queue, store, control_store = await _open_ports(around, keyring)
    catalog, notices = Catalog(control_store, clock), Notices()
    helm = Helm(queue, catalog, Afar(ledger))
    inline = settings.inline_max_bytes
    intake = Intake(
        ledger, queue, store, catalog, notices, ids=ids, clock=clock, inline_max_bytes=inline, wake=helm.nudge
    )
    platform = Platform(
        settings=settings,
        roles=around.roles,
        url=around.url,
        keyring=keyring,
        ledger=ledger,
        queue=queue,
        store=store,
        catalog=catalog,
        notices=notices,
        intake=intake,
        broker=Broker(ledger, queue, store, catalog, keyring, notices, clock=clock, inline_max_bytes=inline),
        runs=Runs(ledger, catalog, intake, notices, ids, helm.status),
        helm=helm,
        bridge=None,
        broken=asyncio.get_running_loop().create_future(),
        closing=asyncio.Event(),
    )
    if Role.CONTROLLER in around.roles:
        platform = msgspec.structs.replace(platform, bridge=await _man_bridge(platform, around))
    await catalog.load()
    return platform


async def _open_ports(around: _Surroundings, keyring: Keyring) -> tuple[Ledger, Queue, Store, Store]:
    """Connect to what the processes of a deployment share: ledger, queue, store and control store."""
    settings, clock, environ, random = around.settings, around.clock, around.environ, around.random
    ledger = open_ledger(settings.ledger, clock=clock)
    queue = open_queue(settings.queue, clock=clock, environ=environ)
    signer = Signer(around.url, [keyring.url_secret], clock)
    store = control_store = open_store(settings.store, clock=clock, random=random, signer=signer, environ=environ)
    if settings.control_store not in ("", settings.store):
        control_store = open_store(settings.control_store, clock=clock, random=random, environ=environ)
    refuse_private_parts(settings, around.roles, ledger, queue, store, control_store)
    for part in (ledger, queue, store):
        await around.stack.enter_async_context(part)
    if control_store is not store:
        await around.stack.enter_async_context(control_store)
    return ledger, queue, store, control_store


async def _man_bridge(platform: Platform, around: _Surroundings) -> Bridge:
    settings, clock, random = around.settings, around.clock, around.random
    api = worker_api(settings, around.roles, around.url)
    compute = await around.stack.enter_async_context(
        open_compute(settings.compute, clock=clock, randomness=random, base_env=dict(around.environ))
    )
    parts = Parts(
        ledger=platform.ledger,
        queue=platform.queue,
        store=platform.store,
        compute=compute,
        catalog=platform.catalog,
        broker=platform.broker,
        keyring=platform.keyring,
        ids=around.ids,
        clock=clock,
        outfit=Outfit(api=api, inline_max_bytes=settings.inline_max_bytes),
    )
    platform.helm.controller = Controller(parts, tick_s=settings.tick_seconds)
    return Bridge(compute, platform.helm.controller)


def _app(platform: Platform, around: _Surroundings) -> App:
    """Give what this process serves: the API, or without the gateway's role only what anyone may ask of a process."""
    settings = platform.settings
    services = Services(
        intake=platform.intake,
        broker=platform.broker,
        runs=platform.runs,
        catalog=platform.catalog,
        ledger=platform.ledger,
        queue=platform.queue,
        store=platform.store,
        compute=platform.bridge.compute if platform.bridge is not None else None,
        controller=platform.helm,
        keyring=platform.keyring,
        clock=around.clock,
        ids=around.ids,
        settings=GatewaySettings(
            public_url=platform.url, t_sync_s=settings.t_sync_seconds, inline_max_bytes=settings.inline_max_bytes
        ),
        registry=CollectorRegistry(),
        closing=platform.closing,
    )
    if Role.GATEWAY in platform.roles:
        return build(services)
    return build(services, endpoints=[endpoint for endpoint in ENDPOINTS if endpoint.scope == PUBLIC])


def _vital(work: Coroutine[None, None, None], platform: Platform) -> asyncio.Task[None]:
    """Start what must not end by itself: if it fails, the platform is broken."""
    task = asyncio.create_task(work)

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not platform.broken.done():
            platform.broken.set_exception(error)
            platform.broken.exception()  # it is told by whoever runs the platform, or by nobody: no warning

    task.add_done_callback(ended)
    return task


# ------------------------------------------------------------------ the pulse


def _pulses(platform: Platform) -> Iterator[Coroutine[None, None, None]]:
    yield _every(_SEEN_EVERY_S, platform.broker.note_seen)
    yield _every(_CATALOG_EVERY_S, platform.catalog.load)
    ledger, helm = platform.ledger.features, platform.helm
    if ledger.tells_changes:
        yield hear(platform.ledger, platform.notices)
    if ledger.many_processes:
        yield _every(_LOOK_EVERY_S, helm.look)
        yield helm.send()
        if platform.bridge is not None and platform.queue.features.many_processes:
            yield helm.hear()


async def _every(seconds: float, duty: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await duty()
        except PenstockError as error:
            _log.warning("duty.failed", duty=duty.__qualname__, detail=error.detail)


# ------------------------------------------------------------------ the end


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})  # what it failed with, if it did, was told already


async def _stop_server(server: Server, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    await asyncio.wait({serving})


async def serve_until_told(
    settings: Settings,
    environ: Mapping[str, str],
    ready: Callable[[Platform], None],
    roles: Roles = EVERY_ROLE,
) -> None:
    """Run the platform, or some roles of it, until SIGTERM or SIGINT; a second one does not wait for the workers.

    `ready` is called once it serves.

    Raises:
        Misconfigured: a setting must change first.
        Exception: a part that must not end did; the platform has been stopped in good order.
    """
    told, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        (hurry if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    async with running(settings, environ=environ, roles=roles, hurry=hurry) as platform:
        ready(platform)
        platform.broken.add_done_callback(lambda _: told.set())
        await told.wait()
        _log.info("platform.stopping", drain_seconds=settings.drain_seconds)
        if platform.broken.done():
            platform.broken.result()
