"""Finds the driver that a URL names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, TypeAlias, cast

from penstock.errors import Misconfigured
from penstock.model.ids import Clock

from ._queue import Observe, Queue
from .driver import Driver

__all__ = ["open_queue"]

GROUP: Final = "penstock.queue"  # the entry point group in which another distribution offers a driver's `connect`
_DRIVERS: Final = {
    "memory": "penstock.queue.memory",
    "sql": "penstock.queue.sql",
    "redis": "penstock.queue.redis",
    "rediss": "penstock.queue.redis",
    "sqs": "penstock.queue.sqs",
}
_Connect: TypeAlias = Callable[[str, Clock, Mapping[str, str]], Driver]


def open_queue(
    url: str, *, clock: Clock, observe: Observe | None = None, environ: Mapping[str, str] | None = None
) -> Queue:
    """Give the queue that a URL names (`memory:`, `sql:///abs/queue.db`, `redis://host`, `sqs://region`), not connected yet: `await queue.open()`.

    A `?visibility=30` sets after how many seconds an unacknowledged message comes again.

    Args:
        url: what carries the messages.
        clock: the time by which messages come again.
        observe: is told of each call: operation, seconds, and "ok" or an error's code.
        environ: the environment, where a vendor's credentials are looked up that the URL doesn't hold.

    Raises:
        Misconfigured: no driver goes by the URL's scheme, or the driver can't use the URL.
    """
    connect = _driver(url.partition(":")[0])
    return Queue(connect(url, clock, environ or {}), clock=clock, observe=observe)


def _driver(scheme: str) -> _Connect:
    if module := _DRIVERS.get(scheme):
        try:
            return cast("_Connect", import_module(module).connect)
        except ModuleNotFoundError as error:
            extra = module.rpartition(".")[2]
            raise Misconfigured(f"{scheme}: needs {error.name}; install penstock[{extra}]") from error
    offers = {offer.name: offer for offer in entry_points(group=GROUP)}
    if scheme not in offers:
        known = ", ".join(sorted({*_DRIVERS, *offers}))
        raise Misconfigured(f"no queue driver goes by {scheme!r}; known are: {known}")
    return cast("_Connect", offers[scheme].load())
