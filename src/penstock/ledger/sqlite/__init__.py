"""The embedded ledger: one SQLite file, one writer, a group of commands per synced commit."""

from __future__ import annotations

from .driver import SqliteLedger, connect, migrate

__all__ = ["SqliteLedger", "connect", "migrate"]
