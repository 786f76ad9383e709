"""Finds the driver that a URL names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, TypeAlias, cast

from penstock.errors import Misconfigured
from penstock.model.ids import Clock, Randomness

from ._store import PATIENT, Observe, Patience, Store
from .driver import Driver
from .signing import Signer

__all__ = ["open_store"]

GROUP: Final = "penstock.store"  # the entry point group in which another distribution offers a driver's `connect`
_DRIVERS: Final = {
    "memory": "penstock.store.memory",
    "file": "penstock.store.local",
    "s3": "penstock.store.s3",
    "gs": "penstock.store.gcs",
    "azure": "penstock.store.azure",
}
_Connect: TypeAlias = Callable[[str, Clock, Mapping[str, str]], Driver]


def open_store(
    url: str,
    *,
    clock: Clock,
    random: Randomness,
    signer: Signer | None = None,
    sleep: Callable[[float], Awaitable[object]] | None = None,
    patience: Patience = PATIENT,
    observe: Observe | None = None,
    environ: Mapping[str, str] | None = None,
) -> Store:
    """Give the store that a URL names (`memory:`, `file:///abs/dir`, `s3://bucket/prefix`), not connected yet.

    Then `await store.open()`.

    Args:
        url: where the objects lie.
        clock: the time that objects and URLs are stamped with.
        random: what the pauses between tries are spread by.
        signer: makes URLs of our own, where the driver can't sign.
        sleep: what a pause between tries waits by; `asyncio.sleep` if not given.
        patience: how often and how long a call is tried.
        observe: is told of each try: operation, seconds, and "ok" or an error's code.
        environ: the environment, where a vendor's credentials are looked up that the URL doesn't hold.

    Raises:
        Misconfigured: no driver goes by the URL's scheme, or the driver can't use the URL.
    """
    connect = _driver(url.partition(":")[0])
    return Store(
        connect(url, clock, environ or {}),
        clock=clock,
        random=random,
        signer=signer,
        sleep=sleep,
        patience=patience,
        observe=observe,
    )


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
        raise Misconfigured(f"no store driver goes by {scheme!r}; known are: {known}")
    return cast("_Connect", offers[scheme].load())
