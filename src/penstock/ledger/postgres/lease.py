"""Giving workers the first runs in line.

Whose turn it is comes from the lines' virtual times, which run of a tenant from an index that holds only what is in
line: a lease costs the same at ten runs as at ten million. Nobody waits for another process that leases from the same
line at the same moment: what that one has taken is passed over, and the next in order is taken instead.
"""

# ruff: noqa: S608  # the texts are column lists of ours; every value is bound

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from penstock.ledger.commands import Grant, Lease, Leased
from penstock.ledger.sql.leasing import Asker, attempt_row, grant_of, pick, refusal
from penstock.ledger.sql.lines import Line, Share
from penstock.ledger.sql.rows import RUN, RUN_WIDTH, Row, run_of
from penstock.model.fleet import WorkerState
from penstock.model.run import Run

from . import counters, workers
from .moves import note_changed
from .transaction import Transaction, by_column

__all__ = ["lease"]

_NEXT: Final = """
    SELECT asked.share, taken.seq, taken.alone FROM unnest($1::bigint[], $2::bigint[]) asked (share, count)
    CROSS JOIN LATERAL (
        SELECT seq, alone FROM runs WHERE share = asked.share AND in_line
        ORDER BY head DESC, priority DESC, seq LIMIT asked.count FOR NO KEY UPDATE SKIP LOCKED) taken"""
_GRANT: Final = f"""
    WITH r AS (
        UPDATE runs SET
            state = 'RUNNING', in_line = false, head = false, epoch = epoch + 1,
            queue_left = greatest(0.0, expires_at - $2), started_at = $2, reason = NULL, message = '',
            progress = NULL, progress_note = ''
        WHERE seq = ANY ($1::bigint[]) RETURNING *)
    SELECT {RUN}, c.bytes FROM r JOIN bodies b ON b.seq = r.seq LEFT JOIN results o ON o.seq = r.seq
    LEFT JOIN checkpoints c ON c.seq = r.seq"""
_NOTE: Final = """
    WITH seen AS (
        UPDATE workers w SET
            state = 'IDLE', leases = w.leases + n.granted, seen_at = $3, ready_at = coalesce(w.ready_at, $3)
        FROM unnest($1::text[], $2::bigint[]) n (uid, granted) WHERE w.uid = n.uid)
    INSERT INTO attempts (
        seq, epoch, worker_uid, replica, alone, leased_at, lease_until, deadline_at, due_at, charged, node, candidate,
        gpu_ids, state, live)
    SELECT n.*, 'LEASED', true
    FROM unnest($4::bigint[], $5::int[], $6::text[], $7::int[], $8::bool[], $9::float8[], $10::float8[],
            $11::float8[], $12::float8[], $13::float8[], $14::text[], $15::text[], $16::text[])
        n (seq, epoch, worker_uid, replica, alone, leased_at, lease_until, deadline_at, due_at, charged, node,
            candidate, gpu_ids)"""


class _Turn(msgspec.Struct, frozen=True, gc=False):
    """A locked run that may be leased next, and the share that it is taken from."""

    seq: int
    alone: bool
    share: Share


class _Given(msgspec.Struct, frozen=True):
    """What one asker gets."""

    asker: Asker
    command: Lease
    turns: list[_Turn]
    charges: list[float]
    left: int
    alone_waits: bool


async def lease(tx: Transaction, commands: Sequence[Lease]) -> list[Leased]:
    """Serve those who ask, in the order they asked."""
    askers = await workers.askers(tx, {command.worker_uid for command in commands})
    refused = [refusal(askers.get(command.worker_uid), command) for command in commands]
    served = [(place, commands[place]) for place, why in enumerate(refused) if not why]
    waiting = await _waiting(tx, [command for _, command in served])
    given = {place: _give(tx, waiting, askers[command.worker_uid], command) for place, command in served}
    granted = await _grant(tx, [turn.seq for one in given.values() for turn in one.turns])
    outcomes = {place: _leased(tx, one, granted) for place, one in given.items()}
    await _note(tx, list(given.values()), granted)
    return [outcomes.get(place) or Leased(refused=refused[place]) for place in range(len(commands))]


async def _waiting(tx: Transaction, commands: Sequence[Lease]) -> dict[tuple[str, str], deque[_Turn]]:
    """Give the next runs of each line that is asked for, in order, as many as all who ask may get."""
    wanted = Counter[tuple[str, str]]()
    for command in commands:
        wanted[command.app, command.lane.value] += command.count
    await counters.load(tx, (), wanted)
    lines = {name: tx.lines.find(*name) for name in wanted}
    return {name: deque(await _in_turn(tx, line, wanted[name])) for name, line in lines.items() if line is not None}


async def _in_turn(tx: Transaction, line: Line, count: int) -> list[_Turn]:
    """Lock the next runs of a line. A share of which others hold some gives what it has, and the rest take its turns."""
    taken: dict[Share, list[_Turn]] = {}
    most: dict[Share, int] = {}
    while missing := _missing(turns := line.turns(count, most), taken):
        taken.update({share: [] for share in missing})
        for share_id, seq, alone in await tx.ask(_NEXT, [share.id for share in missing], list(missing.values())):
            share = tx.lines.share(share_id)
            taken[share].append(_Turn(seq, alone, share))
        most.update({share: len(taken[share]) for share, number in missing.items() if len(taken[share]) < number})
    queues = {share: iter(turns_of) for share, turns_of in taken.items()}
    return [next(queues[share]) for share in turns]


def _missing(turns: Sequence[Share], taken: Mapping[Share, Sequence[_Turn]]) -> dict[Share, int]:
    """Give the shares of which more runs have a turn than were taken, with the number of all their turns."""
    return {share: number for share, number in Counter(turns).items() if number > len(taken.get(share, ()))}


def _give(tx: Transaction, waiting: dict[tuple[str, str], deque[_Turn]], asker: Asker, command: Lease) -> _Given:
    name = command.app, command.lane.value
    line = tx.lines.find(*name)
    if line is None:
        return _Given(asker, command, [], [], 0, alone_waits=False)
    turns, alone_waits = pick(waiting[name], command.count, idle=command.idle)
    charges = [turn.share.lease() for turn in turns]
    return _Given(asker, command, turns, charges, line.in_line, alone_waits)


# ------------------------------------------------------------------ the grant


async def _grant(tx: Transaction, seqs: list[int]) -> dict[int, tuple[Run, bytes | None]]:
    """Move runs to RUNNING; gives them as they are after that, with their checkpoints, by seq."""
    if not seqs:
        return {}
    granted = {}
    for row in await tx.ask(_GRANT, sorted(seqs), tx.now):
        run = run_of(row)
        granted[run.seq] = run, row[RUN_WIDTH]
    note_changed(tx, (run.id for run, _ in granted.values()))
    return granted


def _leased(tx: Transaction, given: _Given, granted: dict[int, tuple[Run, bytes | None]]) -> Leased:
    grants = tuple(_grant_of(tx, *granted[turn.seq]) for turn in given.turns)
    return Leased(grants=grants, left=given.left, alone_waits=given.alone_waits)


def _grant_of(tx: Transaction, run: Run, checkpoint: bytes | None) -> Grant:
    return grant_of(run, checkpoint, tx.now)


async def _note(tx: Transaction, given: Sequence[_Given], granted: dict[int, tuple[Run, bytes | None]]) -> None:
    """Write the attempts, and what their workers were given; an empty lease of a known worker writes nothing."""
    attempts: list[Row] = []
    leases = Counter[str]()
    for one in given:
        for turn, charged in zip(one.turns, one.charges, strict=True):
            attempts.append(attempt_row(one.asker, one.command.replica, granted[turn.seq][0], charged, tx.now))
        if one.turns or one.asker.state == WorkerState.STARTING:
            leases[one.asker.uid] += len(one.turns)
    if leases:
        await tx.do(_NOTE, *by_column(sorted(leases.items()), 2), tx.now, *by_column(attempts, 13))
