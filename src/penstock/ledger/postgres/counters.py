"""The counters of lines and shares: loaded as far as a group needs them, and saved as differences.

Other processes count at the same time. So a group never writes what it read plus its own, but adds its own to what is
there: the rows are locked only at the end, in the order of their numbers, until the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from penstock.ledger.sql.lines import Line, Share
from penstock.ledger.sql.rows import Row
from penstock.model.run import Lane

from .transaction import ShareKey, Transaction, by_column

__all__ = ["load", "make", "save"]

_KNOWN: Final = """
    SELECT asked.app, asked.lane, asked.tenant, s.id
    FROM unnest($1::text[], $2::text[], $3::text[]) asked (app, lane, tenant)
    JOIN lines l ON l.app = asked.app AND l.lane = asked.lane
    JOIN shares s ON s.line = l.id AND s.tenant = asked.tenant"""
_MAKE_LINES: Final = """
    INSERT INTO lines (app, lane)
    SELECT DISTINCT app, lane FROM unnest($1::text[], $2::text[], $3::text[]) asked (app, lane, tenant) ORDER BY 1, 2
    ON CONFLICT DO NOTHING"""
_MAKE_SHARES: Final = """
    INSERT INTO shares (line, tenant)
    SELECT l.id, asked.tenant FROM unnest($1::text[], $2::text[], $3::text[]) asked (app, lane, tenant)
    JOIN lines l ON l.app = asked.app AND l.lane = asked.lane ORDER BY 1, 2
    ON CONFLICT DO NOTHING"""

_LOAD: Final = """
    WITH whole AS (
        SELECT l.id FROM unnest($2::text[], $3::text[]) named (app, lane)
        JOIN lines l ON l.app = named.app AND l.lane = named.lane),
    wanted AS (
        SELECT * FROM shares WHERE id = ANY ($1::bigint[])
        UNION
        SELECT s.* FROM whole JOIN shares s ON s.line = whole.id WHERE s.in_line > 0),
    sums AS (
        SELECT line, sum(queued)::bigint AS queued FROM shares
        WHERE line IN (SELECT line FROM wanted UNION SELECT id FROM whole) GROUP BY line)
    SELECT l.id, l.app, l.lane, l.leased_total, l.settled_total, l.service_seconds, l.expected_seconds, l.floor,
        sums.queued, s.id, s.tenant, s.weight, s.queued, s.in_line, s.running, s.vtime
    FROM sums JOIN lines l ON l.id = sums.line LEFT JOIN wanted s ON s.line = l.id"""

_SAVE: Final = """
    WITH lines_held AS (
        SELECT id FROM lines WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE),
    lines_saved AS (
        UPDATE lines l SET
            leased_total = l.leased_total + d.leased, settled_total = l.settled_total + d.settled,
            service_seconds = l.service_seconds + d.seconds, expected_seconds = d.expected,
            floor = greatest(l.floor, d.floor)
        FROM lines_held
        JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[])
            d (id, leased, settled, seconds, expected, floor) ON d.id = lines_held.id
        WHERE l.id = lines_held.id
        RETURNING 1),
    shares_held AS (
        SELECT id FROM shares
        WHERE id = ANY ($7::bigint[]) AND (SELECT count(*) FROM lines_saved) >= 0  -- lines first, always
        ORDER BY id FOR NO KEY UPDATE)
    UPDATE shares s SET
        weight = d.weight, queued = s.queued + d.queued, in_line = s.in_line + d.in_line,
        running = s.running + d.running, vtime = greatest(s.vtime, d.lifted_to) + d.charge
    FROM shares_held
    JOIN unnest($7::bigint[], $8::float8[], $9::bigint[], $10::bigint[], $11::bigint[], $12::float8[], $13::float8[])
        d (id, weight, queued, in_line, running, lifted_to, charge) ON d.id = shares_held.id
    WHERE s.id = shares_held.id"""


async def make(tx: Transaction, keys: Iterable[ShareKey]) -> None:
    """See that tenants have their shares: made at their first use, and remembered."""
    missing = sorted({key for key in keys if key not in tx.shares and key not in tx.made})
    if not missing:
        return
    asked = by_column(list(missing), 3)
    found = await tx.ask(_KNOWN, *asked)
    if len(found) < len(missing):
        await tx.do(_MAKE_LINES, *asked)
        await tx.do(_MAKE_SHARES, *asked)
        found = await tx.ask(_KNOWN, *asked)
    tx.made.update({(app, lane, tenant): share for app, lane, tenant, share in found})


async def load(tx: Transaction, shares: Collection[int], lines: Collection[tuple[str, str]] = ()) -> None:
    """Load shares, with their lines, and all that have runs in line of the `lines`, named by app and lane."""
    missing = [share for share in sorted(set(shares)) if share not in tx.counted]
    if not missing and not lines:
        return
    for row in await tx.ask(_LOAD, missing, *by_column(sorted(lines), 2)):
        line = _line(tx, row[:9])
        if row[9] is not None and row[9] not in tx.counted:
            _share(tx, line, row[9:])


def _line(tx: Transaction, row: Row) -> Line:
    line_id, app, lane, leased_total, settled_total, service_seconds, expected_seconds, floor, queued = row
    line = tx.lines.find(app, lane)
    if line is None:
        line = tx.lines.add_line(line_id, app, Lane(lane))
        line.leased_total, line.settled_total, line.service_seconds = leased_total, settled_total, service_seconds
        line.expected_seconds, line.floor, line.queued = expected_seconds, floor, queued
        tx.lines_counted[line_id] = (leased_total, settled_total, service_seconds)
    return line


def _share(tx: Transaction, line: Line, row: Row) -> None:
    share = tx.lines.add_share(row[0], line, row[1])
    _, _, share.weight, share.queued, share.in_line, share.running, share.vtime = row
    tx.counted[share.id] = (share.queued, share.in_line, share.running, share.vtime)
    if share.in_line > 0:
        line.active.add(share)


async def save(tx: Transaction) -> None:
    """Add what this group counted to what is stored."""
    lines, shares = tx.lines.changed_lines, tx.lines.changed_shares
    if lines or shares:
        await tx.do(
            _SAVE,
            *by_column([_line_row(tx, line) for line in lines], 6),
            *by_column([_share_row(tx, share) for share in shares], 7),
        )
    lines.clear()
    shares.clear()


def _line_row(tx: Transaction, line: Line) -> Row:
    leased, settled, seconds = tx.lines_counted[line.id]
    return (
        line.id,
        line.leased_total - leased,
        line.settled_total - settled,
        line.service_seconds - seconds,
        line.expected_seconds,
        line.floor,
    )


def _share_row(tx: Transaction, share: Share) -> Row:
    queued, in_line, running, vtime = tx.counted[share.id]
    return (
        share.id,
        share.weight,
        share.queued - queued,
        share.in_line - in_line,
        share.running - running,
        share.lifted_to,
        share.vtime - max(vtime, share.lifted_to),
    )
