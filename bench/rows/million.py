"""A million queued runs: accept and lease must cost what they cost on an empty queue.

Two ledgers side by side, one of them full, measured turn by turn, so that both meet the same noise.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile

from bench.ledger import BULK, accept, opened, serve, timed
from bench.table import Row
from penstock.ledger import Ledger
from penstock.ledger.commands import AddWorker
from penstock.model.fleet import Worker, WorkerState

QUEUED = 1_000_000
ROUNDS = 7
APP = "bench"


def measure() -> list[Row]:
    """Fill one ledger, then take turns."""
    return asyncio.run(_measure())


async def _measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        async with opened(f"sqlite://{folder}/empty.db") as empty, opened(f"sqlite://{folder}/full.db") as full:
            for ledger in (empty, full):
                worker = Worker(uid=f"w-{APP}", app=APP, spec_generation=1, state=WorkerState.STARTING)
                await ledger.do(AddWorker(worker=worker))
            for _ in range(QUEUED // BULK):
                await accept(full, APP, BULK)
            turns = [(await _turn(empty), await _turn(full)) for _ in range(ROUNDS)]
    return [_row(name, [(a[i], b[i]) for a, b in turns]) for i, name in enumerate(("accept", "lease + settle"))]


async def _turn(ledger: Ledger) -> tuple[float, float]:
    """Give the median seconds of an accept of 16, and of leasing and settling 16; the ledger is as full as before."""
    accepts = await timed(lambda: accept(ledger, APP, 16), 60)
    serves = await timed(lambda: serve(ledger, APP, 16), 60)
    return statistics.median(accepts), statistics.median(serves)


def _row(name: str, pairs: list[tuple[float, float]]) -> Row:
    ratio = statistics.median(full / empty for empty, full in pairs)
    empty, full = (1000 * statistics.median(each) for each in zip(*pairs, strict=True))
    note = f"groups of 16: {full:.2f} ms, empty {empty:.2f} ms"
    return Row(f"{name} latency with 1 M queued", ratio, "x empty", 1.5, least=False, note=note)
