"""Names on the command line: of apps and runs, bare or as `kind/name`, and completed by asking the server."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from penstock.errors import PenstockError

from .session import Session

__all__ = ["APP", "RUN", "Named", "kind_and_name"]

_APP: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_COMPLETION_S: Final = 1.0


class Named(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """The name of a thing of one kind; `kind/name`, as `-o name` prints it, is taken too."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Give the bare name."""
        kind, name = kind_and_name(str(value))
        if kind not in ("", self.name):
            self.fail(f"{value!r} names a {kind}, and a {self.name} is wanted.", param, ctx)
        if self.name == "app" and not _APP.fullmatch(name):
            self.fail(f"{name!r} can't be an app: apps have lower-case letters, digits and '-'.", param, ctx)
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Give the names that begin so; none if the server does not answer within a second."""
        del param
        session = ctx.find_object(Session)
        if session is None:
            return []
        with suppress(PenstockError, TimeoutError):
            names = asyncio.run(_names(session, self.name))
            return [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return []


def kind_and_name(text: str) -> tuple[str, str]:
    """Split `kind/name`; the kind of a bare name is empty."""
    kind, slash, name = text.partition("/")
    return (kind, name) if slash else ("", text)


async def _names(session: Session, kind: str) -> list[str]:
    async with asyncio.timeout(_COMPLETION_S), session.client() as client:
        if kind == "app":
            return [app.name async for app in client.apps.list()]
        return [run.id async for run in client.runs(most=20)]


APP: Final = Named("app")
RUN: Final = Named("run")
