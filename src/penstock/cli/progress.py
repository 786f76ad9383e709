"""What is shown while one waits: a line on standard error that moves, on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from .session import Session

__all__ = ["Tell", "waiting"]

Tell: TypeAlias = Callable[[str], None]


@contextmanager
def waiting(session: Session, text: str) -> Iterator[Tell]:
    """Show that something is waited for; gives the function that changes what is said."""
    if not session.lively:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, no_color=session.colourless)
    with console.status(escape(text)) as status:
        yield lambda text: status.update(escape(text))
