"""Answers kept under an idempotency key. A pin is locked by its name, which may have no row yet, before anything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from penstock.ledger.commands import KeepPin, Pin, Pinned, TakePin
from penstock.ledger.sql.book import PIN_SECONDS, pinned
from penstock.ledger.sql.rows import Row

from .transaction import Transaction, by_column

__all__ = ["keep_pin", "keep_runs", "lock", "runs_of", "take_pin"]

_LOCK: Final = """
    SELECT pg_advisory_xact_lock(held.name) FROM (
        SELECT DISTINCT hashtextextended(current_schema() || ' pin ' || scope || ' ' || key, 0) AS name
        FROM unnest($1::text[], $2::text[]) named (scope, key) ORDER BY 1) held"""
_FIND: Final = """
    SELECT p.scope, p.key, p.fingerprint, p.run_id, p.status, p.body, p.content_type, p.taken_at
    FROM unnest($1::text[], $2::text[]) named (scope, key)
    JOIN pins p ON p.scope = named.scope AND p.key = named.key WHERE p.taken_at > $3"""
_KEEP_RUNS: Final = """
    INSERT INTO pins (scope, key, fingerprint, run_id, taken_at)
    SELECT n.*, $5 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) n (scope, key, fingerprint, run_id)
    ON CONFLICT (scope, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, taken_at = excluded.taken_at, run_id = excluded.run_id,
        status = NULL, body = NULL, content_type = NULL"""
_TAKE: Final = """
    INSERT INTO pins (scope, key, fingerprint, taken_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (scope, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, taken_at = excluded.taken_at, run_id = NULL,
        status = NULL, body = NULL, content_type = NULL"""
_KEEP: Final = """
    UPDATE pins SET status = $4, body = $5, content_type = $6 WHERE scope = $1 AND key = $2 AND fingerprint = $3"""
_DROP: Final = "DELETE FROM pins WHERE scope = $1 AND key = $2 AND fingerprint = $3 AND status IS NULL"


async def lock(tx: Transaction, named: Iterable[Pin]) -> None:
    """Keep all others away from these pins until the group is committed."""
    names: list[Row] = sorted({(pin.scope, pin.key) for pin in named})
    if names:
        await tx.do(_LOCK, *by_column(names, 2))


async def _find(tx: Transaction, wanted: Sequence[Pin]) -> dict[tuple[str, str], Row]:
    names: list[Row] = sorted({(pin.scope, pin.key) for pin in wanted})
    if not names:
        return {}
    rows = await tx.ask(_FIND, *by_column(names, 2), tx.now - PIN_SECONDS)
    return {(row[0], row[1]): row[2:] for row in rows}


async def runs_of(tx: Transaction, wanted: Sequence[Pin]) -> dict[tuple[str, str], tuple[str, str]]:
    """Give the fingerprint and the run of each pin that stands for a run."""
    return {name: (row[0], row[1]) for name, row in (await _find(tx, wanted)).items() if row[1] is not None}


async def keep_runs(tx: Transaction, runs: Mapping[Pin, str]) -> None:
    """Let pins stand for runs."""
    rows: list[Row] = [(pin.scope, pin.key, pin.fingerprint, run_id) for pin, run_id in runs.items()]
    if rows:
        await tx.do(_KEEP_RUNS, *by_column(rows, 4), tx.now)


async def take_pin(tx: Transaction, commands: Sequence[TakePin]) -> list[Pinned]:
    """Reserve pins, or tell what they stand for."""
    found = await _find(tx, [command.pin for command in commands])
    outcomes = []
    for pin in (command.pin for command in commands):
        row = found.get((pin.scope, pin.key))
        now = pinned(None if row is None else (row[0], *row[2:]), pin, tx.now)
        if now.how == "fresh":
            await tx.do(_TAKE, pin.scope, pin.key, pin.fingerprint, tx.now)
            found[pin.scope, pin.key] = (pin.fingerprint, None, None, None, None, tx.now)
        outcomes.append(now)
    return outcomes


async def keep_pin(tx: Transaction, commands: Sequence[KeepPin]) -> list[None]:
    """Store the answers of reserved pins, or free them."""
    for command in commands:
        pin, answer = command.pin, command.answer
        named = (pin.scope, pin.key, pin.fingerprint)
        if answer is None:
            await tx.do(_DROP, *named)
        else:
            await tx.do(_KEEP, *named, answer.status, answer.body, answer.content_type)
    return [None] * len(commands)
