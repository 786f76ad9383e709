"""The operator's half of the client: apps."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import quote

from penstock import manifest
from penstock.errors import Invalid
from penstock.model.app import App
from penstock.model.documents import (
    AppDocument,
    AppEventDocument,
    AppEventPage,
    AppliedDocument,
    AppPage,
    DecisionDocument,
    DecisionPage,
)

from .streams import lines
from .transport import Request, Transport

__all__ = ["AsyncApps"]

_TEXT = {"Content-Type": "application/yaml"}


class AsyncApps:
    """Apps of one server: `client.apps`. Every call raises `PenstockError`, `NotFound` for an unknown app."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def apply(
        self, spec: App | str | Path, *, if_match: str | None = None, dry_run: bool = False
    ) -> AppliedDocument:
        """Make a spec (an App, YAML text, or a YAML file of one app) the app's present one, and give what changed.

        With `if_match`, an etag, it is refused (`Conflict`) if the app has changed since; with `dry_run` nothing is
        written. Raises `InvalidSpec`.
        """
        app = _one(spec)
        answer = await self._transport.send(
            Request(
                method="PUT",
                path=f"/v1/apps/{quote(app.name, safe='')}",
                query={"dry_run": "true"} if dry_run else {},
                headers=_TEXT | ({"If-Match": f'"{if_match}"'} if if_match is not None else {}),
                body=manifest.emit(app).encode(),
            )
        )
        return answer.decode(AppliedDocument)

    async def get(self, name: str) -> AppDocument:
        """Give an app: its spec and what it is doing."""
        return (await self._transport.send(Request(method="GET", path=_path(name)))).decode(AppDocument)

    async def list(self) -> AsyncGenerator[AppDocument]:
        """Give every app, by name."""
        query: dict[str, str] = {"limit": "200"}
        while True:
            answer = await self._transport.send(Request(method="GET", path="/v1/apps", query=query))
            page = answer.decode(AppPage)
            for app in page.items:
                yield app
            if page.next is None:
                return
            query["after"] = page.next

    async def spec(self, name: str) -> str:
        """Give an app's spec as YAML that can be applied again."""
        return (await self._transport.send(Request(method="GET", path=_path(name, "spec")))).body.decode()

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Forget an app. With live runs it is kept (`Conflict`), unless `force` cancels them."""
        query = {"force": "true"} if force else {}
        await self._transport.send(Request(method="DELETE", path=_path(name), query=query))

    async def pause(self, name: str) -> AppDocument:
        """Go on accepting, start nothing."""
        return await self._wish(name, "pause")

    async def resume(self, name: str) -> AppDocument:
        """Accept and execute again."""
        return await self._wish(name, "resume")

    async def drain(self, name: str) -> AppDocument:
        """Accept nothing new, finish what is queued."""
        return await self._wish(name, "drain")

    async def events(self, name: str, *, limit: int = 50, after: int = 0) -> tuple[AppEventDocument, ...]:
        """Give what happened to an app, newest first: the latest, or those with an id above `after`."""
        query = {"limit": str(limit), "after": str(after)}
        answer = await self._transport.send(Request(method="GET", path=_path(name, "events"), query=query))
        return answer.decode(AppEventPage).items

    async def decisions(self, name: str, *, limit: int = 50) -> tuple[DecisionDocument, ...]:
        """Give an app's placements, newest first."""
        query = {"limit": str(limit)}
        answer = await self._transport.send(Request(method="GET", path=_path(name, "decisions"), query=query))
        return answer.decode(DecisionPage).items

    async def logs(
        self, name: str, *, tail: int = 100, follow: bool = False, worker: str | None = None, since: str | None = None
    ) -> AsyncGenerator[str]:
        """Give the last lines of an app's workers, each led by its worker's uid, and with `follow` new ones for ever."""
        query = {"tail": str(tail), "follow": str(follow).lower()}
        query |= {key: value for key, value in (("worker", worker), ("since", since)) if value is not None}
        request = Request(method="GET", path=_path(name, "logs"), query=query)
        async with self._transport.stream(request) as body, aclosing(lines(body.iter_any())) as each:
            async for line in each:
                yield line

    async def _wish(self, name: str, verb: str) -> AppDocument:
        # To wish twice is to wish once.
        return (await self._transport.send(Request(method="POST", path=_path(name, verb)))).decode(AppDocument)


def _path(name: str, verb: str = "") -> str:
    return f"/v1/apps/{quote(name, safe='')}" + (f"/{verb}" if verb else "")


def _one(spec: App | str | Path) -> App:
    if isinstance(spec, App):
        return spec
    text, source = (spec.read_text(), str(spec)) if isinstance(spec, Path) else (spec, "spec")
    apps = manifest.parse(text, source=source)
    if len(apps) != 1:
        raise Invalid(f"{source} holds {len(apps)} apps; apply them one by one")
    return manifest.resolve(apps[0], str(spec.absolute().parent)) if isinstance(spec, Path) else apps[0]
