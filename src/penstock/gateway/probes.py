"""Probes and the like: whether the gateway lives, whether it can do its work, and what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from penstock._version import __version__
from penstock.errors import PenstockError
from penstock.ledger.commands import TakeLead
from penstock.model.documents import Whoami

from .call import Call
from .meters import CONTENT_TYPE
from .reply import NO_STORE, Reply, document
from .services import Services

__all__ = ["Check", "Health", "jwks", "live", "metrics", "ready", "ready_full", "version", "whoami"]

_LIMIT_S: Final = 5.0


class Check(msgspec.Struct, frozen=True):
    """What one check found: `ok`, `degraded` or `failed`."""

    status: str
    detail: str = ""


class Health(msgspec.Struct, frozen=True):
    """The worst of the checks, and each of them."""

    status: str
    checks: dict[str, Check] = {}


async def live(_: Call) -> Reply:
    """`GET /health/live` and `/healthz`: this process answers."""
    return document(Health("ok"), 200, NO_STORE)


async def ready(call: Call) -> Reply:
    """`GET /health/ready`: the ledger takes writes and the store answers; a queue that is down only slows things."""
    return await _health(call.services, {"ledger": _ledger, "store": _store_reachable, "queue": _queue_reachable})


async def ready_full(call: Call) -> Reply:
    """`GET /health/ready/full`: each part is really used."""
    return await _health(
        call.services,
        {
            "ledger": _ledger,
            "store": _store_works,
            "queue": _queue_works,
            "controller": _controller,
            "workers": _workers,
        },
    )


async def metrics(call: Call) -> Reply:
    """`GET /metrics`: for Prometheus."""
    services, meters = call.services, call.meters
    now, lanes, workers = await asyncio.gather(
        services.ledger.now(), services.ledger.lanes(), services.ledger.workers(limit=100_000)
    )
    meters.snapshot.take(now, lanes, workers, services.broker)
    return Reply(200, [(b"content-type", CONTENT_TYPE), NO_STORE], meters.text())


async def version(_: Call) -> Reply:
    """`GET /version`: what runs here."""
    return document({"version": __version__})


async def whoami(call: Call) -> Reply:
    """`GET /v1/whoami`: what the credential says."""
    who = call.principal
    return document(Whoami(who.subject, who.tenant, tuple(sorted(who.scopes))))


async def jwks(call: Call) -> Reply:
    """`GET /.well-known/jwks.json`: the public keys of the tokens that this deployment signs."""
    return document(call.services.keyring.jwks())


async def _health(services: Services, checks: dict[str, Callable[[Services], Awaitable[str]]]) -> Reply:
    found = dict(zip(checks, await asyncio.gather(*(_check(services, *each) for each in checks.items())), strict=True))
    states = {check.status for check in found.values()}
    worst = next((state for state in ("failed", "degraded") if state in states), "ok")
    return document(Health(worst, found), 503 if worst == "failed" else 200, NO_STORE)


async def _check(services: Services, name: str, look: Callable[[Services], Awaitable[str]]) -> Check:
    bad = "failed" if name in ("ledger", "store") else "degraded"
    try:
        async with asyncio.timeout(_LIMIT_S):
            return Check("ok", await look(services))
    except TimeoutError:
        return Check(bad, f"no answer within {_LIMIT_S:g} s")
    except PenstockError as error:
        return Check(bad, error.detail)


async def _ledger(services: Services) -> str:
    # A ledger whose disk is full can be read, and takes nothing in: only a write tells.
    await services.ledger.take_lead(TakeLead(name="probe", holder="anyone", ttl_seconds=1.0))
    return services.ledger.features.durability


async def _store_reachable(services: Services) -> str:
    await services.store.list("penstock/", limit=1)
    return services.store.features.durability


async def _store_works(services: Services) -> str:
    await services.store.probe()
    return services.store.features.durability


async def _queue_reachable(services: Services) -> str:
    await services.queue.depth("penstock-probe")
    return services.queue.features.durability


async def _queue_works(services: Services) -> str:
    await services.queue.probe()
    return services.queue.features.durability


async def _controller(services: Services) -> str:
    seen = sum(services.controller.status(entry.app.name) is not None for entry in services.catalog.all())
    return f"it has looked at {seen} of {len(services.catalog.all())} apps"


async def _workers(services: Services) -> str:
    return f"{len(await services.ledger.workers())} live workers"
