"""`-w`: things are printed, and printed again when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import click

from .output import Format, Kind, Layout
from .session import Session, say

__all__ = ["LOOK_S", "Watch", "follow", "watch_option"]

T = TypeVar("T")

LOOK_S: Final = 1.0

watch_option = click.option("-w", "--watch", is_flag=True, help="Go on, and print what changes; Ctrl-C ends it.")


class Watch(Generic[T]):
    """What was shown of each thing, so that only changes are shown again."""

    def __init__(self, session: Session, kind: Kind[T], form: Format) -> None:
        self._session = session
        self._kind = kind
        self._form = form
        self._layout = Layout(kind, form, colours=session.colours)
        self._shown: dict[str, object] = {}

    def show(self, items: Sequence[T]) -> None:
        """Print the things that are new or changed, and say which are gone."""
        stamps = {self._kind.name_of(item): self._kind.stamp(item) for item in items}
        changed = [item for item in items if self._shown.get(name := self._kind.name_of(item)) != stamps[name]]
        for line in self._layout.lines(changed, now=self._session.now()):
            click.echo(line)
        for name in self._shown.keys() - stamps.keys():
            say(f"{self._kind.name}/{name} is gone")
        self._shown = stamps


async def follow(
    watch: Watch[T],
    fetch: Callable[[], Awaitable[Sequence[T]]],
    ended: Callable[[Sequence[T]], bool] = lambda _: False,
) -> None:
    """Look every second and show what changed, until what is seen has `ended`."""
    while True:
        items = await fetch()
        watch.show(items)
        if ended(items):
            return
        await asyncio.sleep(LOOK_S)
