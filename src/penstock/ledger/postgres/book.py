"""The book beside the runs: decisions, events, the audit, and leaderships.

Who numbers rows for readers that go on from the last number they saw writes them one process after the other, so that
no number appears after a higher one.
"""

# the texts are ours; every value is bound

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from penstock.ledger.chain import FIRST
from penstock.ledger.commands import Audit, Lead, Remember, TakeLead
from penstock.ledger.sql.book import KEPT_PER_APP, chained, led

from .transaction import Transaction, by_column

__all__ = ["audit", "remember", "take_lead"]

_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || $1, 0))"

# ------------------------------------------------------------------ decisions and events

_DECIDE: Final = """
    INSERT INTO decisions (app, record)
    SELECT app, record FROM unnest($1::text[], $2::text[]) WITH ORDINALITY n (app, record, place) ORDER BY place"""
_EVENTS: Final = """
    INSERT INTO events (app, at, kind, message, worker_uid)
    SELECT app, at, kind, message, worker_uid
    FROM unnest($1::text[], $2::float8[], $3::text[], $4::text[], $5::text[])
        WITH ORDINALITY n (app, at, kind, message, worker_uid, place) ORDER BY place"""
_PRUNE: Final = """
    DELETE FROM {0} USING (
        SELECT named.app, oldest.id FROM unnest($1::text[]) named (app)
        CROSS JOIN LATERAL (SELECT id FROM {0} WHERE app = named.app ORDER BY id DESC LIMIT 1 OFFSET $2) oldest) past
    WHERE {0}.app = past.app AND {0}.id <= past.id"""


async def remember(tx: Transaction, commands: Sequence[Remember]) -> list[None]:
    """Store decisions and events, and let go of the oldest of their apps."""
    decisions = [decision for command in commands for decision in command.decisions]
    events = [event for command in commands for event in command.events]
    await tx.do(_ONE_AT_A_TIME, " events")
    if decisions:
        records = [(decision.app, msgspec.json.encode(decision).decode()) for decision in decisions]
        await tx.do(_DECIDE, *by_column(list(records), 2))
        await tx.do(_PRUNE.format("decisions"), sorted({decision.app for decision in decisions}), KEPT_PER_APP)
    if events:
        rows = [(event.app, event.at, event.kind, event.message, event.worker_uid) for event in events]
        await tx.do(_EVENTS, *by_column(list(rows), 5))
        await tx.do(_PRUNE.format("events"), sorted({event.app for event in events}), KEPT_PER_APP)
    return [None] * len(commands)


# ------------------------------------------------------------------ audit

_LAST: Final = "SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1"
_AUDIT: Final = """
    INSERT INTO audit SELECT * FROM unnest($1::bigint[], $2::float8[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])"""


async def audit(tx: Transaction, commands: Sequence[Audit]) -> list[None]:
    """Append rows, each chained to the one before it."""
    await tx.do(_ONE_AT_A_TIME, " audit")
    number, previous = next(iter(await tx.ask(_LAST)), (0, FIRST))
    rows = [msgspec.structs.astuple(row) for row in chained(commands, number, previous, tx.now)]
    await tx.do(_AUDIT, *by_column(list(rows), 11))
    return [None] * len(commands)


# ------------------------------------------------------------------ leaderships

_NAME: Final = "INSERT INTO leads VALUES ($1, '', 0, 0) ON CONFLICT DO NOTHING"
_LEADER: Final = "SELECT holder, term, until FROM leads WHERE name = $1 FOR NO KEY UPDATE"
_LEAD: Final = "UPDATE leads SET holder = $2, term = $3, until = $4 WHERE name = $1"


async def take_lead(tx: Transaction, commands: Sequence[TakeLead]) -> list[Lead]:
    """Give or renew leaderships."""
    for name in sorted({command.name for command in commands}):
        await tx.do(_NAME, name)
        await tx.do(_LEADER, name)  # locks it
    return [await _take_lead(tx, command) for command in commands]


async def _take_lead(tx: Transaction, command: TakeLead) -> Lead:
    (row,) = await tx.ask(_LEADER, command.name)
    lead = led(row, command, tx.now)
    if lead.held:
        await tx.do(_LEAD, command.name, lead.holder, lead.term, lead.until)
    return lead
