"""What a verified credential says of its bearer."""

from __future__ import annotations

import msgspec

__all__ = ["Principal", "WorkerClaims"]


class Principal(msgspec.Struct, frozen=True):
    """A person or a service: whose runs it sees (`tenant`), its name (`subject`) and what it may do (`scopes`)."""

    tenant: str
    subject: str
    scopes: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset()


class WorkerClaims(msgspec.Struct, frozen=True):
    """A worker: its uid, and the one app whose runs it may lease."""

    uid: str
    app: str
