"""The apps of the deployment: each one's present spec and every generation of it, kept in the control store.

`penstock/apps/{app}/spec.yaml` is the authority, changed only by compare-and-set on its etag. Each change of what
workers see is a new generation, kept beside it. Reads are answered from memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

import msgspec

from penstock import manifest
from penstock.errors import Conflict, NotFound
from penstock.model.app import App, DesiredState
from penstock.model.app_changes import FieldChange, diff
from penstock.model.ids import Clock
from penstock.store import Store, keys
from penstock.store.driver import Info, Put

__all__ = ["Applied", "Catalog", "Entry"]

_GENERATION: Final = "penstock.dev/generation"
_CREATED: Final = "penstock.dev/created-at"
_UPDATED: Final = "penstock.dev/updated-at"
_WISH: Final = "/spec/desiredState"
_SEEK_EVERY_S: Final = 0.5  # so that names which nobody knows cost the store little


class Entry(msgspec.Struct, frozen=True):
    """An app as it stands. `etag` changes with every write; `generation` only with what workers see."""

    app: App
    generation: int
    etag: str
    created_at: float
    updated_at: float


class Applied(msgspec.Struct, frozen=True):
    """What an apply did: the app after it, the fields that changed, and whether it is new."""

    entry: Entry
    changes: tuple[FieldChange, ...]
    created: bool


class Catalog:
    """Apps by name. `load` before the first use; call it again to see what other processes changed."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._generations: dict[tuple[str, int], App] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._seeking = asyncio.Lock()
        self._seek_after = -inf  # when an unknown name is looked for next, by the monotonic clock

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with an app's name after each change of it."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Read what the control store holds and memory does not, and forget what is gone."""
        before, found = dict(self._entries), set[str]()
        after = ""
        while page := await self._store.list(keys.APPS, after=after):
            after = page[-1].key
            for info in page:
                name = keys.app_of_spec(info.key)
                if name is not None:
                    found.add(name)
                    await self._refresh(name, info, before.get(name))
        for name in before.keys() - found:
            if self._entries.get(name) is before[name]:  # else it was made anew while we looked
                self._forget(name)

    async def _refresh(self, name: str, info: Info, before: Entry | None) -> None:
        """Read an app that another process changed; what this process changes meanwhile is newer than what was listed."""
        if before is not None and before.etag == info.etag:
            return
        try:
            text = await self._store.get(info.key)
        except NotFound:
            return  # it was deleted since it was listed
        if self._entries.get(name) is before:
            self._keep(_read(text, info.etag))

    async def seek(self, name: str) -> Entry:
        """Give an app, after another look where it is unknown: another process may have made it. Raises `NotFound`."""
        if name not in self._entries:
            async with self._seeking:
                if name not in self._entries and self._clock.monotonic() >= self._seek_after:
                    await self.load()
                    self._seek_after = self._clock.monotonic() + _SEEK_EVERY_S
        return self.get(name)

    def find(self, name: str) -> Entry | None:
        """Give an app, or None."""
        return self._entries.get(name)

    def get(self, name: str) -> Entry:
        """Give an app. Raises `NotFound`."""
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"there is no app named {name!r}; `penstock get apps` lists those there are")
        return entry

    def all(self) -> list[Entry]:
        """Give every app, by name."""
        return [self._entries[name] for name in sorted(self._entries)]

    async def at_generation(self, name: str, generation: int) -> App:
        """Give an app's spec as it was in a generation. Raises `NotFound`."""
        entry = self._entries.get(name)
        if entry is not None and entry.generation == generation:
            return entry.app
        app = self._generations.get((name, generation))
        if app is None:
            text = await self._store.get(keys.app_generation(name, generation))
            app = self._generations[name, generation] = manifest.parse(text.decode())[0]
        return app

    async def apply(self, app: App, *, if_match: str | None = None, dry_run: bool = False) -> Applied:
        """Make `app` the present spec, as a new generation if workers would see a difference.

        Raises `Conflict` when `if_match` is not the present etag, or when another process changed the app meanwhile.
        """
        present = self._entries.get(app.name)
        if if_match is not None and (present is None or if_match not in (present.etag, "*")):
            raise Conflict(
                f"app {app.name!r} has changed since it was read; read it again and apply your change to that"
            )
        changes = diff(present.app, app) if present else ()
        if present and (not changes or dry_run):
            return Applied(_with(present, app) if dry_run else present, changes, created=False)
        generation = await self._generation_for(app, present, changes)
        now = self._clock.now()
        entry = Entry(app, generation, "", present.created_at if present else now, now)
        if not dry_run:
            entry = await self._write(entry, present)
        return Applied(entry, changes, created=present is None)

    async def set_desired_state(self, name: str, wish: DesiredState) -> Entry:
        """Pause, drain or resume an app; its generation stays. Raises `NotFound` and `Conflict`."""
        present = self.get(name)
        return (await self.apply(msgspec.structs.replace(present.app, desired_state=wish))).entry

    async def delete(self, name: str) -> None:
        """Forget an app; the generations stay, for the runs that were accepted under them. Raises `NotFound`."""
        self.get(name)
        await self._store.delete(keys.app_spec(name))
        self._forget(name)

    async def _generation_for(self, app: App, present: Entry | None, changes: tuple[FieldChange, ...]) -> int:
        if present is not None:
            only_a_wish = all(change.pointer == _WISH for change in changes)
            return present.generation if only_a_wish else present.generation + 1
        # A name that was deleted and comes back goes on counting, so a generation names one spec for ever.
        kept = await self._store.list(keys.app_generations(app.name))
        return 1 + max((keys.generation_of(info.key) for info in kept), default=0)

    async def _write(self, entry: Entry, present: Entry | None) -> Entry:
        if present is None or entry.generation != present.generation:
            await self._write_generation(entry)
        condition = Put(match=present.etag) if present else Put(create=True)
        try:
            info = await self._store.put(keys.app_spec(entry.app.name), _text(entry), condition)
        except Conflict as error:
            await self.load()
            raise Conflict(f"app {entry.app.name!r} was changed by someone else just now; try again") from error
        entry = msgspec.structs.replace(entry, etag=info.etag)
        self._keep(entry)
        return entry

    async def _write_generation(self, entry: Entry) -> None:
        key = keys.app_generation(entry.app.name, entry.generation)
        text = manifest.emit(entry.app).encode()
        try:
            await self._store.put(key, text, Put(create=True))
        except Conflict:
            # A writer that died between its two puts left this generation behind; nothing refers to it yet.
            await self._store.put(key, text)

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.app.name] = entry
        self._tell(entry.app.name)

    def _forget(self, name: str) -> None:
        del self._entries[name]
        self._tell(name)

    def _tell(self, name: str) -> None:
        for listener in self._listeners:
            listener(name)


def _with(entry: Entry, app: App) -> Entry:
    return msgspec.structs.replace(entry, app=app)


def _text(entry: Entry) -> bytes:
    """Give the stored form: the app's YAML with the catalog's own facts as annotations."""
    facts = {
        _GENERATION: str(entry.generation),
        _CREATED: repr(entry.created_at),
        _UPDATED: repr(entry.updated_at),
    }
    app = msgspec.structs.replace(entry.app, annotations={**entry.app.annotations, **facts})
    return manifest.emit(app).encode()


def _read(text: bytes, etag: str) -> Entry:
    app = manifest.parse(text.decode())[0]
    notes = dict(app.annotations)
    generation = int(notes.pop(_GENERATION, "1"))
    created_at, updated_at = float(notes.pop(_CREATED, "0")), float(notes.pop(_UPDATED, "0"))
    return Entry(msgspec.structs.replace(app, annotations=notes), generation, etag, created_at, updated_at)
