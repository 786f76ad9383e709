"""The roles that a process of the platform may have, and what keeps some of them from standing alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from penstock.errors import Misconfigured
from penstock.ledger import Ledger
from penstock.queue import Queue
from penstock.store import Store

from .settings import Settings, masked

__all__ = ["EVERY_ROLE", "Role", "Roles", "read_roles", "refuse_private_parts", "worker_api"]


class Role(StrEnum):
    """What a process does."""

    GATEWAY = "gateway"  # serves the API, to callers and to workers
    CONTROLLER = "controller"  # starts and ends workers, and repairs; of several, one leads


Roles: TypeAlias = frozenset[Role]
EVERY_ROLE: Final[Roles] = frozenset(Role)
_SHARED: Final = {
    "ledger": "postgresql://user:password@host:5432/database",
    "queue": "redis://host:6379/0",
    "store": "s3://bucket/prefix",
    "control_store": "s3://bucket/prefix",
}


class _Shareable(Protocol):
    @property
    def many_processes(self) -> bool: ...


def read_roles(names: Iterable[str]) -> Roles:
    """Give the roles with these names. Raises `Misconfigured` for one that there is not, and for none at all."""
    wanted = {name.strip() for name in names} - {""}
    unknown = wanted - set(Role)
    if unknown or not wanted:
        said = f"there is no role {min(unknown)!r}" if unknown else "a process needs a role"
        raise Misconfigured(f"{said}: give some of {', '.join(Role)}, with commas between")
    return frozenset(Role(name) for name in wanted)


def worker_api(settings: Settings, roles: Roles, url: str) -> str:
    """Give the address at which workers reach a gateway; `url` is this process's own.

    Raises:
        Misconfigured: workers are started here, the gateway is elsewhere, and nobody said where.
    """
    known = settings.worker_api or settings.public_url
    if known or Role.GATEWAY in roles:
        return known or url
    raise Misconfigured(
        "a controller without a gateway in its process must be told where workers find one: "
        "set worker_api (or public_url) to the gateways' address, such as PENSTOCK__WORKER_API=http://127.0.0.1:8080"
    )


def refuse_private_parts(settings: Settings, roles: Roles, ledger: Ledger, queue: Queue, *stores: Store) -> None:
    """See that a process with some of the roles shares each of its parts with the processes that have the others.

    Raises:
        Misconfigured: a part serves one process only; says what to set.
    """
    if roles == EVERY_ROLE:
        return
    for name in _private(ledger, queue, stores):
        raise Misconfigured(
            f"{name} {masked(settings)[name]} is for one process, and this one is only {', '.join(sorted(roles))}: "
            f"set {name} to what several share (PENSTOCK__{name.upper()}={_SHARED[name]}), "
            "or have every role in one process: penstock up"
        )


def _private(ledger: Ledger, queue: Queue, stores: Iterable[Store]) -> Iterator[str]:
    parts: Iterable[tuple[str, _Shareable]] = [
        ("ledger", ledger.features),
        ("queue", queue.features),
        *((name, store.features) for name, store in zip(("store", "control_store"), stores, strict=False)),
    ]
    return (name for name, features in parts if not features.many_processes)
