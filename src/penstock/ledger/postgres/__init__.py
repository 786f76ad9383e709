"""The ledger for many processes: PostgreSQL, a group of commands per transaction, a statement per kind of command."""

from __future__ import annotations

from .driver import PostgresLedger, connect, migrate

__all__ = ["PostgresLedger", "connect", "migrate"]
