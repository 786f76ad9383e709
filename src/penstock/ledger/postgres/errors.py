"""PostgreSQL's errors, translated once, by the class and the code of the SQL standard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from penstock.errors import Misconfigured, PenstockError, Unavailable

__all__ = ["contended", "translated", "translation"]

# What asyncpg raises for a server that can't be reached, that went away (between two steps of ours too, by which its
# own state is confused), or that does not answer.
_OUTAGE: Final = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

_CONTENDED: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock: the same again will do

_LATER: Final = {
    "08": "the connection to it was lost",
    "25006": "it takes no writes (a failover is under way, or the URL names a replica)",
    "25P03": "the transaction was idle for too long and was ended",
    "40": "its transactions are contended",
    "53100": "its disk is full; free some space",
    "53300": "it has no connection left; raise max_connections, or run fewer processes",
    "53": "it is short of resources",
    "55P03": "a lock was held for too long",
    "57014": "a statement took too long and was ended",
    "57P": "it is starting, stopping or being restarted",
    "58": "its system failed",
}
_NEVER: Final = {
    "28": "it refuses this user; check the user and the password in the URL, and pg_hba.conf",
    "3D000": "the database of the URL does not exist; create it, then run `penstock migrate`",
    "3F000": "the schema is missing; run `penstock migrate`",
    "42501": "this user lacks a right; grant it SELECT, INSERT, UPDATE and DELETE on the schema, or run as its owner",
    "42703": "its tables are of another version; run `penstock migrate`",
    "42P01": "its tables are missing; run `penstock migrate`",
    "F0": "its configuration is broken",
    "XX001": "its data are damaged; stop, keep a copy, and restore a backup",
    "XX002": "an index of it is damaged; run REINDEX",
}


def _named(codes: dict[str, str], code: str) -> str | None:
    """Give the text of a code: by all of it, or by the longest beginning of it that has one."""
    return next((codes[code[:length]] for length in range(len(code), 1, -1) if code[:length] in codes), None)


def translation(error: BaseException, name: str) -> PenstockError | None:
    """Give the error that the ledger's contract has for this one, or None where the fault lies in what was asked."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        later, never = _named(_LATER, code), _named(_NEVER, code)
        if later is not None:
            return Unavailable(f"ledger {name}: {later} ({error})")
        if never is not None:
            return Misconfigured(f"ledger {name}: {never} ({error})")
        return None
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError):
        return Misconfigured(f"ledger {name}: its URL can't be followed ({error})")
    if isinstance(error, _OUTAGE):
        told = str(error) or type(error).__name__
        return Unavailable(f"ledger {name}: it can't be reached, or went away ({told}); see that it runs there")
    return None


def contended(error: BaseException) -> bool:
    """Tell whether the transaction lost against another one, or a migration, and only needs to be done again."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _CONTENDED


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Raise `Unavailable` or `Misconfigured` in place of PostgreSQL's errors that mean so."""
    try:
        yield
    except (asyncpg.PostgresError, *_OUTAGE) as error:
        known = translation(error, name)
        if known is None:
            raise
        raise known from error
