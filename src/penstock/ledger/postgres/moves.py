"""Taking locked runs in the hand, and writing what became of them."""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from penstock.ledger.sql.moves import HELD, SHARE_OF_HELD, Held, Moves
from penstock.ledger.sql.rows import RUN_TABLES, Row

from . import counters
from .transaction import Transaction, by_column

__all__ = ["hold_found", "note_changed", "write_moves"]

# Runs are locked by one statement and read by the next: a statement that has waited for a lock sees the new row of the
# run, but the old rows of all that it joins to it.
_READ: Final = f"""
    SELECT {HELD} FROM {RUN_TABLES} LEFT JOIN attempts a ON a.seq = r.seq AND a.epoch = r.epoch
    WHERE r.seq = ANY ($1::bigint[])"""
_WRITE: Final = """
    WITH moved AS (
        UPDATE runs r SET
            state = m.state, reason = m.reason, message = m.message, in_line = m.in_line, head = m.head,
            alone = m.alone, failures = m.failures, deaths = m.deaths, queued_at = m.queued_at,
            not_before = m.not_before, expires_at = m.expires_at, finished_at = m.finished_at, keep_until = m.keep_until
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::bool[], $6::bool[], $7::int[], $8::int[],
                $9::float8[], $10::float8[], $11::float8[], $12::float8[], $13::float8[], $14::bigint[])
            m (state, reason, message, in_line, head, alone, failures, deaths, queued_at, not_before, expires_at,
                finished_at, keep_until, seq)
        WHERE r.seq = m.seq),
    ended AS (
        UPDATE attempts a SET
            state = e.state, live = e.live, reported = e.reported, finished_at = e.finished_at,
            exit_code = e.exit_code, reason = e.reason, message = e.message, due_at = e.due_at
        FROM unnest($15::text[], $16::bool[], $17::bool[], $18::float8[], $19::int[], $20::text[], $21::text[],
                $22::float8[], $23::bigint[], $24::int[])
            e (state, live, reported, finished_at, exit_code, reason, message, due_at, seq, epoch)
        WHERE a.seq = e.seq AND a.epoch = e.epoch),
    released AS (
        UPDATE attempts a SET live = false FROM unnest($25::bigint[], $26::int[]) g (seq, epoch)
        WHERE a.seq = g.seq AND a.epoch = g.epoch)
    INSERT INTO results (seq, object, size, content_type, encoding, bytes)
    SELECT * FROM unnest($27::bigint[], $28::text[], $29::bigint[], $30::text[], $31::text[], $32::bytea[])
    ON CONFLICT (seq) DO UPDATE SET
        object = excluded.object, size = excluded.size, content_type = excluded.content_type,
        encoding = excluded.encoding, bytes = excluded.bytes"""


async def hold_found(tx: Transaction, found: Sequence[int]) -> list[Held]:
    """Give the runs of these numbers, which are locked already, in that order."""
    missing = [seq for seq in found if seq not in tx.held]
    if missing:
        rows = await tx.ask(_READ, missing)
        await counters.load(tx, {row[SHARE_OF_HELD] for row in rows})
        for row in rows:
            _take(tx, row)
    return [tx.held[seq] for seq in found if seq in tx.held]


def _take(tx: Transaction, row: Row) -> None:
    held = Held(row, tx.lines.share(row[SHARE_OF_HELD]))
    tx.held[held.run.seq] = tx.held_by_id[held.run.id] = held


async def write_moves(tx: Transaction, moves: Moves) -> None:
    """Write what was gathered, in one statement."""
    moved = moves.moved
    if moved or moves.ended or moves.released:
        await tx.do(
            _WRITE,
            *by_column(moved, 14),
            *by_column(moves.ended, 10),
            *by_column(moves.released, 2),
            *by_column(moves.results, 6),
        )
    note_changed(tx, (run.id for run in moves.runs))


def note_changed(tx: Transaction, run_ids: Iterable[str]) -> None:
    """Remember whom to tell about, once the group is committed."""
    tx.changed.update(dict.fromkeys(run_ids))
