"""Where a PostgreSQL ledger lives: its URL, read once."""

from __future__ import annotations

import re
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from penstock.errors import Misconfigured

__all__ = ["Place"]

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_WRITE: Final = "write postgresql://user:password@host:5432/database"


class Place(msgspec.Struct, frozen=True):
    """A schema in a database. `name` is for people: it holds no password.

    Of the URL's query, `schema` names the schema (default: penstock), and `clock=caller` lets times be those of the
    process instead of the database's, for tests that hold time in their hand. The rest (`sslmode` ...) is libpq's.
    """

    dsn: str
    name: str
    schema: str
    callers_clock: bool

    @classmethod
    def of(cls, url: str) -> Self:
        """Read a URL. Raises `Misconfigured`."""
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema, clock = given.pop("schema", "penstock"), given.pop("clock", "database")
        try:
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise Misconfigured(f"ledger URL: {error}; {_WRITE}") from error
        database = parts.path.removeprefix("/")
        name = f"{parts.scheme}://{host}{f':{port}' if port else ''}/{database}"
        if not database or "/" in database or parts.fragment:
            raise Misconfigured(f"ledger URL {name}: it names no database; {_WRITE}")
        if not _NAME.fullmatch(schema):
            raise Misconfigured(f"ledger URL {name}: schema {schema!r} is no plain name (a-z, 0-9, _)")
        if clock not in {"database", "caller"}:
            raise Misconfigured(f"ledger URL {name}: `clock` is `database` or `caller`")
        dsn = parts._replace(query=urlencode(given)).geturl()
        return cls(dsn, name, schema, clock == "caller")
