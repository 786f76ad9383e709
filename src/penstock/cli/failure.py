"""A failure as the command line tells it: one clear paragraph on standard error, what to do next, an exit code.

0  done
1  it failed
2  the command was written wrongly
3  it does not exist
4  the credential does not permit it
5  the server can't be reached, or can't serve now
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Final

import click

from penstock.errors import (
    Forbidden,
    Gone,
    Invalid,
    InvalidSpec,
    NotFound,
    PenstockError,
    Unauthenticated,
    Unavailable,
)

__all__ = ["DENIED", "FAILED", "NOT_FOUND", "UNREACHABLE", "Failure", "exit_code", "paragraph"]

FAILED: Final = 1
NOT_FOUND: Final = 3
DENIED: Final = 4
UNREACHABLE: Final = 5

_OURS: Final = 500

_CODES: Final[tuple[tuple[type[PenstockError], int], ...]] = (
    (NotFound, NOT_FOUND),
    (Gone, NOT_FOUND),
    (Unauthenticated, DENIED),
    (Forbidden, DENIED),
    (Unavailable, UNREACHABLE),
)
_NEXT: Final[tuple[tuple[type[PenstockError], str], ...]] = (
    (Unauthenticated, "pass --api-key or --token, or set PENSTOCK_API_KEY or PENSTOCK_TOKEN"),
    (Forbidden, "`penstock whoami` shows what this credential may do"),
)


class Failure(click.ClickException):
    """An error of Penstock's on its way out of the program."""

    def __init__(self, error: PenstockError) -> None:
        super().__init__(paragraph(error))
        self.exit_code = exit_code(error)  # type: ignore[misc]  # click declares it for the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the paragraph, to standard error unless told otherwise."""
        click.echo(self.message, file=file, err=file is None)


def exit_code(error: PenstockError) -> int:
    """Give the code that tells scripts what kind of failure this is."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def paragraph(error: PenstockError) -> str:
    """Give what went wrong, where, and what to do next."""
    if isinstance(error, InvalidSpec) and error.faults:
        # As compilers write it, so that an editor can jump there.
        return "\n".join(f"{fault}" if fault.source else f"{fault.pointer}: {fault}" for fault in error.faults)
    lines = [f"Error: {_headline(error)}"]
    if isinstance(error, Invalid):
        lines += [f"  {fault.pointer or '/'}: {fault.message}" for fault in error.errors]
    if error.status >= _OURS and not isinstance(error, Unavailable) and not hasattr(error, "run_id"):
        lines += [f"  {note}" for note in getattr(error, "__notes__", ())]
    lines += [f"Next: {hint}" for hint in _hints(error)]
    return "\n".join(_harmless(line) for line in lines)


def _harmless(text: str) -> str:
    """Give a server's text with nothing in it that a terminal would obey; it may repeat what a stranger sent."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _headline(error: PenstockError) -> str:
    run_id = getattr(error, "run_id", "")
    return f"run/{run_id} has no result: {error.code}: {error.detail}" if run_id else error.detail


def _hints(error: PenstockError) -> Iterator[str]:
    yield from (hint for kind, hint in _NEXT if isinstance(error, kind))
    if run_id := getattr(error, "run_id", ""):
        yield f"penstock explain {run_id}"
    if pending := getattr(error, "pending", None):
        yield f"penstock explain {pending.run_id} says why; penstock result run/{pending.run_id} --wait waits on"
