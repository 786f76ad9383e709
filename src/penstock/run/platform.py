"""The platform in one process: every part opened, joined to its neighbours, and let go again in reverse."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog
import uvicorn
from prometheus_client import CollectorRegistry

from penstock.compute import Compute, open_compute
from penstock.errors import Misconfigured, PenstockError
from penstock.gateway.app import build
from penstock.gateway.asgi import App
from penstock.gateway.protocol import Protocol
from penstock.gateway.services import Services
from penstock.gateway.services import Settings as GatewaySettings
from penstock.identity import Keyring, open_keyring
from penstock.ledger import Ledger, open_ledger
from penstock.model.ids import Clock, Ids, Randomness
from penstock.placement import Controller, Outfit, Parts
from penstock.queue import Queue, open_queue
from penstock.serving import Broker, Catalog, Intake, Notices, Runs
from penstock.store import Signer, Store, open_store

from .clock import SystemClock
from .drain import drain
from .settings import Settings

__all__ = ["Platform", "running", "serve_until_told"]

_log = structlog.get_logger("penstock.platform")
_SEEN_EVERY_S: Final = 5.0
_CATALOG_EVERY_S: Final = 5.0
_BACKLOG: Final = 4096
_LAST_WORDS_S: Final = 2  # for answers under way, after all who wait for an end have been let go


class Platform(msgspec.Struct, frozen=True):
    """The opened parts of one process, for whoever runs or tests it."""

    settings: Settings
    url: str
    keyring: Keyring
    ledger: Ledger
    queue: Queue
    store: Store
    compute: Compute
    catalog: Catalog
    notices: Notices
    intake: Intake
    broker: Broker
    runs: Runs
    controller: Controller
    broken: asyncio.Future[None]  # has the exception of a part that must not end and did
    closing: asyncio.Event  # set once the workers are at rest: live streams end


class _Server(uvicorn.Server):
    """A server that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    clock: Clock | None = None,
    random: Randomness = os.urandom,
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[Platform]:
    """Give the running platform: gateway, controller and compute in this process; on leaving, everything stops.

    Workers are asked to finish and are given `drain_seconds`, or until `hurry` is set; what they still hold then goes
    back to the queue.

    Raises:
        Misconfigured: a setting must change first; the detail says which.
    """
    clock = clock or SystemClock()
    _refuse_open_doors(settings)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        url = settings.public_url or f"http://{_authority(settings.host, listener.getsockname()[1])}"
        platform, app = await _assemble(stack, settings, url, environ, clock, random)
        server = _Server(_server_config(app))
        stack.push_async_callback(_stop_server, server, _vital(server.serve(sockets=[listener]), platform))
        stack.callback(platform.closing.set)
        stack.push_async_callback(drain, platform, settings.drain_seconds, hurry or asyncio.Event())
        stack.push_async_callback(_cancel, _vital(platform.controller.run(), platform))
        for pulse in _pulses(platform):
            stack.push_async_callback(_cancel, _vital(pulse, platform))
        yield platform


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


async def _assemble(
    stack: AsyncExitStack, settings: Settings, url: str, environ: Mapping[str, str], clock: Clock, random: Randomness
) -> tuple[Platform, App]:
    keyring = open_keyring(Path(settings.state) / "keys.json", clock=clock)
    signer = Signer(url, [keyring.url_secret], clock)
    ledger = await stack.enter_async_context(open_ledger(settings.ledger, clock=clock))
    queue = await stack.enter_async_context(open_queue(settings.queue, clock=clock, environ=environ))
    store = await stack.enter_async_context(
        open_store(settings.store, clock=clock, random=random, signer=signer, environ=environ)
    )
    compute = await stack.enter_async_context(
        open_compute(settings.compute, clock=clock, randomness=random, base_env=dict(environ))
    )
    catalog = Catalog(await _control_store(stack, settings, store, environ, clock, random), clock)
    notices, ids = Notices(), Ids(clock, random)
    inline = settings.inline_max_bytes
    wake = _Wake()
    intake = Intake(ledger, queue, store, catalog, notices, ids=ids, clock=clock, inline_max_bytes=inline, wake=wake)
    broker = Broker(ledger, queue, store, catalog, keyring, notices, clock=clock, inline_max_bytes=inline)
    parts = Parts(
        ledger=ledger,
        queue=queue,
        store=store,
        compute=compute,
        catalog=catalog,
        broker=broker,
        keyring=keyring,
        ids=ids,
        clock=clock,
        outfit=Outfit(api=url, inline_max_bytes=inline),
    )
    controller = Controller(parts, tick_s=settings.tick_seconds)
    wake.target = controller.nudge
    runs = Runs(ledger, catalog, intake, notices, ids, controller.status)
    await catalog.load()
    platform = Platform(
        settings,
        url,
        keyring,
        ledger,
        queue,
        store,
        compute,
        catalog,
        notices,
        intake,
        broker,
        runs,
        controller,
        asyncio.get_running_loop().create_future(),
        asyncio.Event(),
    )
    return platform, build(_services(platform, clock, ids))


def _services(platform: Platform, clock: Clock, ids: Ids) -> Services:
    settings = platform.settings
    return Services(
        intake=platform.intake,
        broker=platform.broker,
        runs=platform.runs,
        catalog=platform.catalog,
        ledger=platform.ledger,
        queue=platform.queue,
        store=platform.store,
        compute=platform.compute,
        controller=platform.controller,
        keyring=platform.keyring,
        clock=clock,
        ids=ids,
        settings=GatewaySettings(
            public_url=platform.url, t_sync_s=settings.t_sync_seconds, inline_max_bytes=settings.inline_max_bytes
        ),
        registry=CollectorRegistry(),
        closing=platform.closing,
    )


class _Wake:
    """Joins the intake to a controller that is made after it."""

    def __init__(self) -> None:
        self.target: Callable[[str], None] = lambda _app: None

    def __call__(self, app: str) -> None:
        self.target(app)


async def _control_store(
    stack: AsyncExitStack,
    settings: Settings,
    store: Store,
    environ: Mapping[str, str],
    clock: Clock,
    random: Randomness,
) -> Store:
    if settings.control_store in ("", settings.store):
        return store
    return await stack.enter_async_context(
        open_store(settings.control_store, clock=clock, random=random, environ=environ)
    )


# ------------------------------------------------------------------ the door


def _refuse_open_doors(settings: Settings) -> None:
    if not _loopback(settings.host):
        raise Misconfigured(
            f"{settings.host} can be reached from other machines, and this version knows no users yet: "
            "bind a loopback address (--host 127.0.0.1) and put a proxy that authenticates in front of it"
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """Give the listening socket, bound before anything else starts so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise Misconfigured(
                f"{settings.host}:{settings.port} can't be bound: {error.strerror}; choose another port with --port"
            ) from error
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        yield listener


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _server_config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_LAST_WORDS_S,
    )


# ------------------------------------------------------------------ the pulse


def _pulses(platform: Platform) -> Iterator[Coroutine[None, None, None]]:
    yield _every(_SEEN_EVERY_S, platform.broker.note_seen)
    yield _every(_CATALOG_EVERY_S, platform.catalog.load)


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


async def _stop_server(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    await asyncio.wait({serving})


async def serve_until_told(settings: Settings, environ: Mapping[str, str], ready: Callable[[Platform], None]) -> None:
    """Run the platform until SIGTERM or SIGINT; a second one ends it without waiting for the workers.

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
    async with running(settings, environ=environ, hurry=hurry) as platform:
        ready(platform)
        platform.broken.add_done_callback(lambda _: told.set())
        await told.wait()
        _log.info("platform.stopping", drain_seconds=settings.drain_seconds)
        if platform.broken.done():
            platform.broken.result()
