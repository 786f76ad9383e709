"""What the functions that apply commands work with: one open transaction, its moment, and the records in its hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from penstock.ledger.sql.leasing import ASKER, Asker
from penstock.ledger.sql.lines import Lines
from penstock.ledger.sql.moves import Held
from penstock.ledger.sql.rows import Row

from .connection import ask

__all__ = ["ShareKey", "Transaction", "by_column"]

ShareKey = tuple[str, str, str]  # app, lane, tenant

_NUMBERS: Final = "SELECT array(SELECT nextval('run_order') FROM generate_series(1, $1::int))"
# Each step of a group costs a way to the server and back, so its first steps are one.
_BEGIN: Final = f"""
    SELECT coalesce($1::float8, extract(epoch FROM clock_timestamp())::float8),
        array(SELECT nextval('run_order') FROM generate_series(1, $2::int)),
        (SELECT json_agg(json_build_array({ASKER})) FROM (
            SELECT {ASKER} FROM workers WHERE uid = ANY ($3::text[]) ORDER BY uid FOR NO KEY UPDATE) held),
        array(SELECT seq FROM runs WHERE run_id = ANY ($4::text[]) ORDER BY seq FOR NO KEY UPDATE)"""  # noqa: S608  # a column list of ours; every value is bound
# What a worker holds can only be looked up once the worker is locked: a statement that waited for that lock does not see
# what the lease it waited for has written.
_LOCK_HELD: Final = """
    SELECT seq FROM runs WHERE seq IN (
        SELECT seq FROM runs WHERE run_id = ANY ($1::text[])
        UNION
        SELECT seq FROM attempts WHERE live AND worker_uid = ANY ($2::text[]))
    ORDER BY seq FOR NO KEY UPDATE"""


class Transaction:
    """One group's open transaction. `now` is the same for all of it.

    `shares` are the numbers of shares, which never change; those in `made` are known once the group is committed.
    `changed` gathers the ids of runs that whoever waits for them should look at again.
    """

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], clock: float | None, shares: dict[ShareKey, int]
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._numbers: deque[int] = deque()
        self.now = 0.0
        self.shares = shares
        self.made: dict[ShareKey, int] = {}
        self.lines = Lines()
        self.counted: dict[int, Row] = {}  # the counters of shares as they were loaded, by id
        self.lines_counted: dict[int, Row] = {}
        self.held: dict[int, Held] = {}  # locked runs, by seq
        self.held_by_id: dict[str, Held] = {}
        self.askers: dict[str, Asker] = {}  # locked workers, by uid
        self.changed: dict[str, None] = {}

    async def begin(
        self, *, new_runs: int, workers: Collection[str], run_ids: Collection[str], ending: Collection[str]
    ) -> list[int]:
        """Take the moment and the numbers for so many new runs; lock workers, then runs, each in their order.

        The runs are those of these ids and those that the `ending` workers hold; gives their numbers.
        """
        named = [] if ending else sorted(run_ids)
        ((self.now, numbers, askers, locked),) = await self.ask(_BEGIN, self._clock, new_runs, sorted(workers), named)
        self._numbers.extend(numbers)
        self.askers.update({row[0]: Asker(*row) for row in msgspec.json.decode(askers or b"[]")})
        if ending:
            return [seq for (seq,) in await self.ask(_LOCK_HELD, sorted(run_ids), sorted(ending))]
        return list(locked)

    async def reserve(self, new_runs: int) -> None:
        """See that there are numbers for so many new runs."""
        if len(self._numbers) < new_runs:
            ((numbers,),) = await self.ask(_NUMBERS, new_runs - len(self._numbers))
            self._numbers.extend(numbers)

    def next_number(self) -> int:
        """Give the next number in the order of acceptance."""
        return self._numbers.popleft()

    async def ask(self, statement: str, *values: Any) -> list[Row]:
        """Give the rows of a statement."""
        return await ask(self._connection, statement, *values)

    async def do(self, statement: str, *values: Any) -> None:
        """Carry a statement out."""
        await self._connection.fetch(statement, *values)


def by_column(rows: Sequence[Row], width: int) -> list[list[Any]]:
    """Give the columns of rows, as the arrays that `unnest` makes rows of again."""
    if not rows:
        return [[] for _ in range(width)]
    return [list(column) for column in zip(*rows, strict=True)]
