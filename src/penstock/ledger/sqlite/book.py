"""The book beside the runs: decisions, events, the audit, leaderships, and answers kept under an idempotency key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from penstock.ledger.chain import FIRST
from penstock.ledger.commands import Audit, KeepPin, Lead, Pinned, Remember, TakeLead, TakePin
from penstock.ledger.sql.book import KEPT_PER_APP, PIN_SECONDS, chained, led, pinned

from .transaction import Transaction

__all__ = ["audit", "keep_pin", "remember", "take_lead", "take_pin"]

# ------------------------------------------------------------------ decisions and events

_PRUNE_DECISIONS: Final = """
    DELETE FROM decisions WHERE app = :app AND id <=
        (SELECT id FROM decisions WHERE app = :app ORDER BY id DESC LIMIT 1 OFFSET :kept)"""
_PRUNE_EVENTS: Final = """
    DELETE FROM events WHERE app = :app AND id <=
        (SELECT id FROM events WHERE app = :app ORDER BY id DESC LIMIT 1 OFFSET :kept)"""


def remember(tx: Transaction, commands: Sequence[Remember]) -> list[None]:
    """Store decisions and events, and let go of the oldest of their apps."""
    decisions = [decision for command in commands for decision in command.decisions]
    events = [event for command in commands for event in command.events]
    db = tx.db
    db.executemany(
        "INSERT INTO decisions (app, record) VALUES (?, ?)",
        [(decision.app, msgspec.json.encode(decision).decode()) for decision in decisions],
    )
    db.executemany(
        "INSERT INTO events (app, at, kind, message, worker_uid) VALUES (?, ?, ?, ?, ?)",
        [(event.app, event.at, event.kind, event.message, event.worker_uid) for event in events],
    )
    for prune, apps in (
        (_PRUNE_DECISIONS, {decision.app for decision in decisions}),
        (_PRUNE_EVENTS, {event.app for event in events}),
    ):
        db.executemany(prune, [{"app": app, "kept": KEPT_PER_APP} for app in sorted(apps)])
    return [None] * len(commands)


# ------------------------------------------------------------------ audit


def audit(tx: Transaction, commands: Sequence[Audit]) -> list[None]:
    """Append rows, each chained to the one before it."""
    number, previous = tx.db.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone() or (0, FIRST)
    rows = [msgspec.structs.astuple(row) for row in chained(commands, number, previous, tx.now)]
    tx.db.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return [None] * len(commands)


# ------------------------------------------------------------------ leaderships


def take_lead(tx: Transaction, commands: Sequence[TakeLead]) -> list[Lead]:
    """Give or renew leaderships."""
    return [_take_lead(tx, command) for command in commands]


def _take_lead(tx: Transaction, command: TakeLead) -> Lead:
    row = tx.db.execute("SELECT holder, term, until FROM leads WHERE name = ?", (command.name,)).fetchone()
    lead = led(row, command, tx.now)
    if lead.held:
        row = (command.name, lead.holder, lead.term, lead.until)
        tx.db.execute("INSERT OR REPLACE INTO leads VALUES (?, ?, ?, ?)", row)
    return lead


# ------------------------------------------------------------------ pins


def take_pin(tx: Transaction, commands: Sequence[TakePin]) -> list[Pinned]:
    """Reserve pins, or tell what they stand for."""
    return [_take_pin(tx, command) for command in commands]


def _take_pin(tx: Transaction, command: TakePin) -> Pinned:
    pin = command.pin
    row = tx.db.execute(
        "SELECT fingerprint, status, body, content_type, taken_at FROM pins WHERE scope = ? AND key = ? AND taken_at > ?",
        (pin.scope, pin.key, tx.now - PIN_SECONDS),
    ).fetchone()
    found = pinned(row, pin, tx.now)
    if found.how == "fresh":
        tx.db.execute(
            "INSERT OR REPLACE INTO pins (scope, key, fingerprint, taken_at) VALUES (?, ?, ?, ?)",
            (pin.scope, pin.key, pin.fingerprint, tx.now),
        )
    return found


def keep_pin(tx: Transaction, commands: Sequence[KeepPin]) -> list[None]:
    """Store the answers of reserved pins, or free them."""
    for command in commands:
        pin, answer = command.pin, command.answer
        named = (pin.scope, pin.key, pin.fingerprint)
        if answer is None:
            tx.db.execute("DELETE FROM pins WHERE scope = ? AND key = ? AND fingerprint = ? AND status IS NULL", named)
        else:
            tx.db.execute(
                "UPDATE pins SET status = ?, body = ?, content_type = ? WHERE scope = ? AND key = ? AND fingerprint = ?",
                (answer.status, answer.body, answer.content_type, *named),
            )
    return [None] * len(commands)
