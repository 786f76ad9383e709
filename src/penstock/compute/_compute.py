"""What every compute driver gets around it: checked names, a limit on each wait, one kind of error, one measurement."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from importlib import import_module
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from penstock.errors import Misconfigured, NotFound, PenstockError, Unavailable
from penstock.model.app import App
from penstock.model.ids import Clock, Randomness

from .driver import Driver, Features, Order, Sighting

__all__ = ["Compute", "Limits", "Observer", "open_compute"]

T = TypeVar("T")

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?")
_BUILT_IN: Final = ("memory", "process")


class Observer(Protocol):
    """Whoever counts: told of each call of a driver after it ended."""

    def __call__(self, operation: str, seconds: float, error: str | None, /) -> None:
        """Take the operation's name, how long it took, and the error's class name where it failed."""
        ...


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The longest waits, in seconds. A `remove` may take its grace on top."""

    open_s: float = 60.0
    create_s: float = 60.0
    ask_s: float = 30.0


def _unobserved(operation: str, seconds: float, error: str | None, /) -> None:
    """Count nothing."""


class Compute:
    """A place where workers run.

    Wraps a driver: refuses names that can't be a file, a pod or a label, bounds every wait, turns what a driver did not
    foresee into `Unavailable`, and tells an observer. After `Unavailable` from `create` the worker may be there or not:
    create it again under the same uid.
    """

    def __init__(
        self, driver: Driver, *, clock: Clock, observer: Observer = _unobserved, limits: Limits | None = None
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._observer = observer
        self._limits = limits or Limits()

    @property
    def features(self) -> Features:
        """What the driver can do."""
        return self._driver.features

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, and find again the workers that outlived the last process."""
        await self._call("open", self._driver.open, self._limits.open_s)

    async def close(self) -> None:
        """Let go without touching a worker; a second call does nothing."""
        await self._call("close", self._driver.close, self._limits.ask_s)

    async def create(self, order: Order) -> None:
        """Start a worker; one of this uid that is there already is a success.

        Raises `Unavailable` (try later) or `Misconfigured` (it can never start as ordered; the detail says why).
        """
        for name in (order.uid, order.app.name):
            if not _NAME.fullmatch(name):
                raise Misconfigured(f"{name!r} can't name a worker: use lower-case letters, digits and inner hyphens")
        await self._call("create", lambda: self._driver.create(order), self._limits.create_s)

    async def prepare(self, app: App, spec_generation: int) -> None:
        """Make the first start of an app's workers faster where the driver can; returns at once."""
        if self.features.prepares:
            await self._call("prepare", lambda: self._driver.prepare(app, spec_generation), self._limits.ask_s)

    async def list(self) -> list[Sighting]:
        """Give every worker there is; an ended one until it is forgotten."""
        return await self._call("list", self._driver.list, self._limits.ask_s)

    def changes(self) -> AsyncIterator[Sighting]:
        """Give sightings as they happen, from now until closed; after a gap `list` is the truth."""
        return self._driver.changes()

    async def drain(self, uid: str) -> None:
        """Ask a worker to finish what it holds and go; unknown is fine."""
        await self._call("drain", lambda: self._driver.drain(uid), self._limits.ask_s)

    async def remove(self, uid: str, grace_s: float = 0.0) -> None:
        """End a worker: asks first and waits `grace_s`, then kills. Unknown or ended is fine."""
        await self._call("remove", lambda: self._driver.remove(uid, grace_s), self._limits.ask_s + grace_s)

    async def forget(self, uid: str) -> None:
        """Drop what is kept of an ended worker (not its log); unknown is fine."""
        await self._call("forget", lambda: self._driver.forget(uid), self._limits.ask_s)

    async def logs(self, uid: str, *, tail: int = 100, follow: bool = False) -> AsyncGenerator[str]:
        """Give a worker's log lines, the last `tail` first and then, with `follow`, new ones until it ends.

        Raises `NotFound` where there is no log of that worker.
        """
        if not _NAME.fullmatch(uid):
            raise NotFound(f"there is no log of a worker {uid!r}")
        try:
            async with aclosing(self._driver.logs(uid, tail=tail, follow=follow)) as lines:
                async for line in lines:
                    yield line
        except OSError as error:
            raise Unavailable(f"the log of {uid} can't be read: {error}") from error

    async def _call(self, operation: str, work: Callable[[], Awaitable[T]], limit_s: float) -> T:
        began = self._clock.monotonic()
        failed: str | None = None
        try:
            async with asyncio.timeout(limit_s):
                return await work()
        except TimeoutError as error:
            failed = "TimeoutError"
            raise Unavailable(f"{operation} took longer than {limit_s:g} s") from error
        except PenstockError as error:
            failed = type(error).__name__
            raise
        except OSError as error:
            failed = type(error).__name__
            raise Unavailable(f"{operation} failed: {error}") from error
        finally:
            self._observer(operation, self._clock.monotonic() - began, failed)


def open_compute(
    url: str,
    *,
    clock: Clock,
    randomness: Randomness,
    base_env: Mapping[str, str] | None = None,
    observer: Observer = _unobserved,
    limits: Limits | None = None,
    **options: Any,
) -> Compute:
    """Give the compute that a URL names; connect with `async with` or `open`.

    `memory:` is a pretend cluster, `process:///abs/state/dir` real processes on this machine; other schemes are looked
    up among the entry points `penstock.compute`. `base_env` is the platform's own environment, of which a driver that
    starts processes passes on what they can't do without; `options` are the driver's own. Raises `Misconfigured`.
    """
    connect = _connector(urlsplit(url).scheme)
    driver = connect(url, clock=clock, randomness=randomness, base_env=dict(base_env or {}), **options)
    return Compute(driver, clock=clock, observer=observer, limits=limits)


def _connector(scheme: str) -> Callable[..., Driver]:
    """Give the function that makes a scheme's driver; drivers are loaded only when they are named."""
    if scheme in _BUILT_IN:
        return cast("Callable[..., Driver]", import_module(f"penstock.compute.{scheme}").connect)
    for found in entry_points(group="penstock.compute", name=scheme):
        return cast("Callable[..., Driver]", found.load())
    raise Misconfigured(f"no compute driver is known for {scheme!r}: use memory: or process:///abs/state/dir")
