"""What makes a command nonsense whatever the ledger holds. Each check gives a sentence, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from penstock.errors import Invalid
from penstock.model.fleet import ENDED
from penstock.model.run import Payload, Terms

from .commands import (
    Accept,
    Again,
    Clear,
    Command,
    EndWorker,
    Extend,
    GrantExit,
    Lease,
    Mend,
    NoteWorker,
    Settle,
    TakeLead,
)

__all__ = ["check"]

_LONGEST_NAME: Final = 512  # characters of a key, a tag, a tenant: bounded by doors already, and again here


def check(command: Command[Any]) -> None:
    """Raise `Invalid` for a command that no ledger could carry out."""
    examine = _CHECKS.get(type(command))
    if examine is None:
        return
    fault = examine(command)
    if fault:
        raise Invalid(f"{type(command).__name__}: {fault}")


def _accept(command: Accept) -> str:
    run = command.run
    if not (run.id and run.tenant and run.app and run.key):
        return "a run needs an id, a tenant, an app and a key"
    if max(len(run.id), len(run.tenant), len(run.app), len(run.key), len(run.tag or "")) > _LONGEST_NAME:
        return f"names are at most {_LONGEST_NAME} characters long"
    if not 0 <= run.priority <= 9:
        return "a priority is 0..9"
    if run.weight <= 0:
        return "a weight is above 0"
    return _body(run.body) or _terms(run.terms)


def _body(body: Payload) -> str:
    return "" if body.inline is None or body.key is None else "a body is inline or in the store, not both"


def _terms(terms: Terms) -> str:
    if terms.max_attempts < 1:
        return "at least one attempt must be allowed"
    if terms.lease_seconds <= 0 or terms.run_deadline_seconds <= 0:
        return "leases and deadlines last longer than 0 s"
    return ""


def _again(command: Again) -> str:
    if not command.new_id:
        return "the new run needs an id"
    return _terms(command.terms) if command.terms is not None else ""


def _lease(command: Lease) -> str:
    return "" if command.count >= 0 else "a lease can't be for fewer than no runs"


def _settle(command: Settle) -> str:
    retry_after = command.report.retry_after
    return "" if retry_after is None or retry_after >= 0 else "`retry_after` lies in the past"


def _extend(command: Extend) -> str:
    return "" if command.progress is None or 0 <= command.progress <= 1 else "progress is 0..1"


def _limited(command: Clear | Mend) -> str:
    return "" if command.limit >= 1 else "a limit is at least 1"


def _note_worker(command: NoteWorker) -> str:
    return "a worker's end is told by EndWorker" if command.state in ENDED else ""


def _end_worker(command: EndWorker) -> str:
    return "" if command.state in ENDED else "a worker ends as EXITED, FAILED or LOST"


def _grant_exit(command: GrantExit) -> str:
    return "" if command.keep >= 0 else "`keep` is at least 0"


def _take_lead(command: TakeLead) -> str:
    return "" if command.ttl_seconds > 0 else "a leadership lasts longer than 0 s"


_CHECKS: Final[Mapping[type[Command[Any]], Callable[[Any], str]]] = {
    Accept: _accept,
    Again: _again,
    Lease: _lease,
    Settle: _settle,
    Extend: _extend,
    Clear: _limited,
    Mend: _limited,
    NoteWorker: _note_worker,
    EndWorker: _end_worker,
    GrantExit: _grant_exit,
    TakeLead: _take_lead,
}
