"""The book beside the runs, as far as it is decided without a database: the audit's rows, leaderships, pins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from penstock.ledger.chain import link
from penstock.ledger.commands import Answer, Audit, AuditRow, Lead, Pin, Pinned, TakeLead
from penstock.model.run import Payload, Run

from .rows import Row

__all__ = [
    "ENDED_WORKER_SECONDS",
    "KEPT_PER_APP",
    "PIN_SECONDS",
    "TOMBSTONE_SECONDS",
    "chained",
    "led",
    "pinned",
    "purged",
]

PIN_SECONDS: Final = 86_400.0
KEPT_PER_APP: Final = 1_000  # decisions, and events
TOMBSTONE_SECONDS: Final = 7 * 86_400.0
ENDED_WORKER_SECONDS: Final = 14 * 86_400.0
_BUSY_SECONDS: Final = 60.0


def chained(commands: Sequence[Audit], number: int, previous: str, now: float) -> list[AuditRow]:
    """Give rows that go on from the last one, which has this number and this hash."""
    rows = []
    for command in commands:
        number += 1
        row = AuditRow(
            id=number,
            at=now,
            tenant=command.tenant,
            subject=command.subject,
            action=command.action,
            object=command.object,
            result=command.result,
            reason=command.reason,
            request_id=command.request_id,
            previous=previous,
        )
        previous = link(row)
        rows.append(replace(row, hash=previous))
    return rows


def led(row: Row | None, command: TakeLead, now: float) -> Lead:
    """Give who leads after someone asked, where the stored row is holder, term, until."""
    holder, term, until = row or ("", 0, 0.0)
    if holder != command.holder:
        if until > now:
            return Lead(held=False, term=term, holder=holder, until=until)
        term += 1
    return Lead(held=True, term=term, holder=command.holder, until=now + command.ttl_seconds)


def pinned(row: Row | None, pin: Pin, now: float) -> Pinned:
    """Give what a pin stands for, where the stored row is fingerprint, status, body, content_type, taken_at."""
    if row is None:
        return Pinned("fresh")
    fingerprint, status, body, content_type, taken_at = row
    if fingerprint != pin.fingerprint:
        return Pinned("mismatch")
    if status is not None:
        return Pinned("answer", Answer(status, body, content_type))
    return Pinned("busy" if taken_at > now - _BUSY_SECONDS else "fresh")


def purged(run: Run, now: float, *, shared: bool) -> Run:
    """Give a run without its bytes. An object that another generation runs on (`shared`) is no longer named in it."""
    body = replace(run.body, inline=None, key=None if shared else run.body.key)
    return replace(run, body=body, result=run.result and _emptied(run.result), purged_at=now)


def _emptied(payload: Payload) -> Payload:
    return replace(payload, inline=None)
