"""How SQLite goes about each question: by an index, so that a million runs, queued or finished, weigh nothing."""

import asyncio
import re

import pytest

from penstock.ledger import open_ledger
from penstock.ledger.commands import (
    Again,
    Audit,
    Cancel,
    Checkpoint,
    Clear,
    EndWorker,
    Extend,
    Gap,
    GrantExit,
    Mend,
    NoteWorker,
    Remember,
    RunFilter,
    SeeWorkers,
    Sweep,
    TakeLead,
)
from penstock.model.fleet import WorkerState
from penstock.model.placement import AppEvent, Decision
from penstock.model.run import Lane, Outcome, State
from penstock.testing.clock import ManualClock
from penstock.testing.suites.ledger import APP, LedgerStage, Scene

# Tables that grow with runs. A scan of lines, shares, leads or notes is a scan of a few rows.
LARGE = "r|runs|b|bodies|o|results|c|checkpoints|a|attempts|w|workers|decisions|events|audit|pins"
SCAN = re.compile(rf"SCAN ({LARGE})\b")
# These indexes hold only what is live; and a walk in the order of numbers ends with its LIMIT.
BOUNDED = re.compile(r"USING (COVERING )?INDEX (attempts_due|attempts_unheard|attempts_of_worker)\b")
WALK = re.compile(r"ORDER BY (id|seq)( DESC)? LIMIT \d+$")


class Traced(LedgerStage):
    url = "sqlite://"

    def ledger(self):
        return open_ledger(self.url, clock=self.clock)

    async def stored(self, run_id):
        raise NotImplementedError


@pytest.fixture
async def scene():
    stage = Traced()
    async with stage.ledger() as ledger:
        yield Scene(stage, ledger)


async def statements(scene, play):
    """Give every distinct statement that a play makes the driver run, with its values filled in."""
    database = scene.ledger._driver._database.writer
    seen = {}
    database.set_trace_callback(lambda text: seen.setdefault(re.sub(r"'[^']*'|\d+", "?", text), text))
    await play(scene)
    database.set_trace_callback(None)
    return [text for text in seen.values() if not text.startswith(("BEGIN", "COMMIT", "--", "PRAGMA"))]


def plan(scene, statement):
    database = scene.ledger._driver._database.writer
    return [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")]


async def a_day(scene):
    """Everything that gateways, workers and the maintainer do, over and over."""
    await scene.worker("w-2")
    for key in "abcdef":
        await scene.submit(key, webhook="https://x.test/")
        await scene.submit(key, priority=9, webhook="https://y.test/")
    done, failed, retried, late, gone = await scene.leased(5)
    await scene.ledger.extend(Extend(run_id=late.id, epoch=1, progress=0.5))
    await scene.ledger.checkpoint(Checkpoint(run_id=late.id, epoch=1, data=b"x"))
    await scene.succeed(done)
    await scene.fail(failed)
    await scene.report(retried, Outcome.RETRY)
    await scene.ledger.again(Again(run_id=failed.id, new_id=scene.ids.run()))
    await scene.ledger.cancel(Cancel(run_id=gone.id))
    await scene.succeed(gone)
    await scene.succeed(done)
    await scene.ledger.gap(Gap())
    scene.clock.advance(0.1)
    await scene.ledger.see_workers(SeeWorkers(uids=("w-1",)))
    await scene.ledger.note_worker(NoteWorker(uid="w-1", pid=1))
    for _ in range(2):
        for sweep in Sweep:
            await scene.ledger.mend(Mend(sweep=sweep))
        scene.clock.advance(1e6)
    await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.FAILED, replica=1))
    await scene.ledger.end_worker(EndWorker(uid="w-1", state=WorkerState.FAILED))
    await scene.ledger.grant_exit(GrantExit(uid="w-2"))
    await scene.ledger.take_lead(TakeLead(name="n", holder="h"))
    await scene.ledger.audit(Audit(tenant="t", subject="s", action="a", object="o", result="ok"))
    await scene.ledger.remember(
        Remember(
            decisions=(Decision(app=APP, spec_generation=1, made_at=0.0, chosen=None),),
            events=(AppEvent(app=APP, at=0.0, kind="Applied", message=""),),
        )
    )
    await scene.ledger.clear(Clear(app=APP))


async def a_look(scene):
    """Everything that people and the controller ask."""
    run = (await scene.submit()).run
    await scene.worker()
    await scene.ledger.run(run.id)
    await scene.ledger.latest("acme", APP, "k")
    await scene.ledger.attempts(run.id)
    await scene.ledger.unanswered(0.0)
    await scene.ledger.lanes()
    await scene.ledger.ahead(APP, Lane.INFER, run.mark)
    await scene.ledger.worker("w-1")
    await scene.ledger.workers(app=APP)
    await scene.ledger.workers(app=APP, live=False)
    await scene.ledger.decisions(APP)
    await scene.ledger.events(APP)
    await scene.ledger.events(after=1)
    await scene.ledger.audited(tenant="t")
    for wanted in (
        RunFilter(tenant="acme"),
        RunFilter(app=APP),
        RunFilter(tenant="acme", app=APP, state=State.FAILED, after=10),
        RunFilter(state=State.RUNNING, tenant="acme"),
        RunFilter(tag="t", tenant="acme"),
        RunFilter(parent="p", app=APP),
        RunFilter(tenant="acme", since=1.0),
    ):
        await scene.ledger.runs(wanted)


@pytest.mark.parametrize("play", [a_day, a_look])
async def test_nothing_large_is_scanned_or_sorted(scene, play):
    found = await statements(scene, play)
    assert len(found) > 15
    for statement in found:
        steps = plan(scene, statement)
        scans = [step for step in steps if SCAN.search(step) and not BOUNDED.search(step)]
        assert not scans or WALK.search(statement), (statement, steps)
        assert "USE TEMP B-TREE FOR ORDER BY" not in steps, (statement, steps)


async def test_commits_are_synced(tmp_path):
    """What `features.durability` promises rests on these two."""
    async with open_ledger(f"sqlite://{tmp_path}/ledger.db", clock=ManualClock()) as ledger:
        writer = ledger._driver._database.writer
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writer.execute("PRAGMA synchronous").fetchone() == (2,), "FULL: the log is synced at each commit"


async def test_ten_thousand_lines_cost_a_group_nothing(scene):
    """Only the counters that moved are written."""
    await asyncio.gather(*(scene.submit("k", app=f"app-{number}") for number in range(200)))
    found = []
    scene.ledger._driver._database.writer.set_trace_callback(found.append)
    await scene.submit("one more", app="app-7")
    assert sum("UPDATE shares" in text for text in found) == 1
