"""What every verb is given: the options and variables that say which server is asked, as whom, and how to speak."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from penstock.client import AsyncClient

    from .contexts import Context

__all__ = ["DEFAULT_API", "Session", "Target", "say"]

DEFAULT_API: Final = "http://127.0.0.1:8080"


class Target(NamedTuple):
    """The server that is asked, the credential shown to it, and who named that server."""

    api: str
    api_key: str
    token: str
    named_by: str


class Session:
    """One call of the program. Options win over variables, variables over the active context, that over the default."""

    def __init__(self, environ: Mapping[str, str], *, now: Callable[[], float] = time.time) -> None:
        self.environ = environ
        self.now = now
        self.options: dict[str, str] = {}

    def target(self) -> Target:
        """Give the server to ask. A context's credential goes to that context's server and to no other.

        Raises:
            NotFound: the context asked for does not exist.
            Misconfigured: the contexts can't be read, an address is no URL, or a variable that a context names is unset.
        """
        name, context = self._context()
        api, named_by = self._address(name, context)
        api_key, token = self._first("api_key"), self._first("token")
        if context is not None and not (api_key or token) and api == context.api.rstrip("/"):
            api_key, token = self._key_of(name, context), context.token
        return Target(api, api_key, token, named_by)

    def address(self) -> tuple[str, str]:
        """Give the server's address and who named it. Raises as `target`, but needs no credential."""
        return self._address(*self._context())

    def _address(self, name: str, context: Context | None) -> tuple[str, str]:
        api, named_by = self._first("api"), "--api" if "api" in self.options else "PENSTOCK_API"
        if not api and context is not None:
            api, named_by = context.api, f"the context {name!r}"
        if not api:
            api, named_by = DEFAULT_API, "the default"
        return _checked(api, named_by), named_by

    def client(self, *, tries: int = 3) -> AsyncClient:
        """Give a client of that server, to be used in `async with`. It gives up soon: somebody sits and waits."""
        from penstock.client import AsyncClient, Patience

        target = self.target()
        return AsyncClient(
            target.api,
            api_key=target.api_key or None,
            token=target.token or None,
            patience=Patience(tries=tries),
        )

    @property
    def colours(self) -> bool:
        """Whether standard output takes colours: a terminal, and nobody said NO_COLOR."""
        return sys.stdout.isatty() and not self.colourless

    @property
    def lively(self) -> bool:
        """Whether progress may be drawn: standard error is a terminal that can move its cursor."""
        return sys.stderr.isatty() and self.environ.get("TERM") != "dumb"

    @property
    def colourless(self) -> bool:
        """Whether colours were refused, by NO_COLOR (no-color.org) or by a terminal that has none."""
        return bool(self.environ.get("NO_COLOR")) or self.environ.get("TERM") == "dumb"

    def _first(self, name: str) -> str:
        return self.options.get(name) or self.environ.get(f"PENSTOCK_{name.upper()}", "")

    def _context(self) -> tuple[str, Context | None]:
        wanted = self._first("context")
        if not wanted and "api" in self.options and self._first("api_key"):
            return "", None  # all is said, so no file need be read
        from . import contexts

        known = contexts.read(contexts.config_file(self.environ))
        name = wanted or known.current_context
        return name, known.get(name) if name else None

    def _key_of(self, name: str, context: Context) -> str:
        if not context.api_key_env:
            return context.api_key
        key = self.environ.get(context.api_key_env, "")
        if not key:
            from penstock.errors import Misconfigured

            raise Misconfigured(
                f"the context {name!r} takes its key from the variable {context.api_key_env}, which is not set; "
                "set it, or pass --api-key"
            )
        return key


def say(text: str) -> None:
    """Tell people something, on standard error: standard output is for what was asked for."""
    click.echo(text, err=True)


def _checked(api: str, named_by: str) -> str:
    try:
        parts = urlsplit(api)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:
        from penstock.errors import Misconfigured

        raise Misconfigured(f"{api!r} (from {named_by}) is no address; write it as http://127.0.0.1:8080")
    return api.rstrip("/")
