"""The file behind the SQLite ledger: what is refused at the door, what is survived, what leaves the event loop."""

import asyncio
import os
import sqlite3
import threading

import pytest

from penstock.errors import Misconfigured, PenstockError, Unavailable
from penstock.ledger import open_ledger
from penstock.ledger.commands import Audit, Cancel, RunFilter
from penstock.ledger.sqlite import database as database_module
from penstock.ledger.sqlite.database import Committing, Database
from penstock.ledger.sqlite.errors import translation
from penstock.testing.clock import ManualClock
from penstock.testing.suites.ledger import LedgerStage, Scene


class Stage(LedgerStage):
    def __init__(self, path):
        super().__init__()
        self.path = path

    @property
    def url(self):
        return f"sqlite://{self.path}"

    def ledger(self):
        return open_ledger(self.url, clock=self.clock)

    async def stored(self, run_id):
        raise NotImplementedError


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path / "state" / "ledger.db")


@pytest.fixture
async def scene(stage):
    async with stage.ledger() as ledger:
        yield Scene(stage, ledger)


async def refused(stage, match):
    with pytest.raises(Misconfigured, match=match):
        await stage.ledger().open()


# ------------------------------------------------------------------ at the door


async def test_folders_are_made_on_the_way(stage):
    async with stage.ledger():
        assert stage.path.exists()


async def test_another_programs_database_is_left_alone(stage):
    stage.path.parent.mkdir()
    with sqlite3.connect(stage.path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = stage.path.read_bytes()
    await refused(stage, "another program's database")
    assert stage.path.read_bytes() == before


async def test_a_newer_schema_is_refused(stage):
    async with stage.ledger():
        pass
    with sqlite3.connect(stage.path) as door:
        door.execute("PRAGMA user_version = 99")
    door.close()
    await refused(stage, "schema 99 .* upgrade Penstock")


async def test_rubbish_is_refused(stage):
    stage.path.parent.mkdir()
    stage.path.write_bytes(b"this is no database at all, " * 100)
    await refused(stage, "no SQLite database")


async def test_a_folder_in_the_place_of_the_file_is_refused(stage):
    stage.path.mkdir(parents=True)
    await refused(stage, "can't be opened")


async def test_a_file_in_the_place_of_the_folder_is_refused(stage):
    stage.path.parent.write_text("in the way")
    await refused(stage, "choose a folder of this user's")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_file_that_can_not_be_written_is_refused(stage):
    async with stage.ledger():
        pass
    stage.path.chmod(0o400)
    await refused(stage, "can't be written")


async def test_the_owner_is_named_to_the_second(stage):
    async with stage.ledger():
        await refused(stage, f"open in process {os.getpid()}")


async def test_a_refused_open_leaves_no_lock(stage):
    stage.path.mkdir(parents=True)
    await refused(stage, "can't be opened")
    stage.path.rmdir()
    async with stage.ledger():
        pass


async def test_a_closed_ledger_says_so(stage):
    ledger = stage.ledger()
    with pytest.raises(Misconfigured, match="call `open` first"):
        await ledger.run("r")


# ------------------------------------------------------------------ errors


def failing(code, name="SQLITE_X"):
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (sqlite3.SQLITE_FULL, Unavailable),
        (sqlite3.SQLITE_BUSY, Unavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, Unavailable),
        (sqlite3.SQLITE_CORRUPT, Misconfigured),
        (sqlite3.SQLITE_READONLY_DBMOVED, Misconfigured),
        (sqlite3.SQLITE_CANTOPEN, Misconfigured),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, type(None)),
    ],
)
def test_errors_are_translated_once(code, wanted):
    found = translation(failing(code), "ledger.db")
    assert type(found) is wanted
    assert found is None or "ledger.db" in found.detail


async def test_a_full_disk_accepts_nothing_and_heals(scene):
    """A real one: the file may not grow any further."""
    database = scene.ledger._driver._database
    (pages,) = database.writer.execute("PRAGMA page_count").fetchone()
    database.writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Unavailable, match="disk is full"):
        await scene.submit("k", traceparent="x" * 100_000)
    assert await scene.ledger.lanes() == []
    assert await scene.ledger.runs(RunFilter()) == []
    database.writer.execute("PRAGMA max_page_count = 1000000")
    assert (await scene.submit("k")).how == "created"
    await scene.check_counters()


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_file_that_is_gone_accepts_nothing(scene, stage, how):
    """SQLite would write on to what has no name any more, and every accept would be a lie."""
    there, aside = stage.path, stage.path.with_suffix(".aside")
    there.rename(aside)
    if how == "replaced":
        there.touch()
    with pytest.raises(Unavailable, match="the file was removed"):
        await scene.submit("lost")
    aside.rename(there)
    assert (await scene.submit("k")).how == "created"
    assert list(await scene.states()) == ["k"]


async def test_a_commit_that_fails_leaves_no_trace(scene, monkeypatch):
    await scene.submit("before")
    tries = []

    def commit(database):
        tries.append(database)
        raise failing(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error")

    monkeypatch.setattr(Database, "_commit", commit)
    with pytest.raises(Unavailable, match="failed to read or write"):
        await scene.submit("lost")
    assert len(tries) == 3
    assert [count.queued for count in await scene.ledger.lanes()] == [1]
    monkeypatch.undo()
    assert list(await scene.states()) == ["before"]
    assert (await scene.submit("after")).ahead == 1
    await scene.check_counters()


async def test_a_bug_in_one_command_is_its_own(scene):
    """Something unforeseen is told to its caller as an error of ours, with its cause; the rest of the group is done."""
    run = await scene.running()
    odd = Cancel(run_id=run.id, reason=["no reason at all"])
    outcomes = await asyncio.gather(
        scene.submit("a"), scene.ledger.cancel(odd), scene.submit("b"), return_exceptions=True
    )
    assert [type(one).__name__ for one in outcomes] == ["Accepted", "Invalid", "Accepted"]
    assert outcomes[1].__cause__ is not None
    assert (await scene.run(run.id)).state == "RUNNING"
    await scene.check_counters()


async def test_an_unknown_command_is_its_own_fault(scene):
    class Dance(Cancel, frozen=True):
        pass

    outcomes = await asyncio.gather(scene.ledger.do(Dance(run_id="r")), scene.submit("a"), return_exceptions=True)
    assert type(outcomes[0]) is PenstockError
    assert outcomes[1].how == "created"


async def test_the_audit_can_not_be_changed_or_cut(scene, stage):
    await scene.ledger.audit(Audit(tenant="t", subject="s", action="a", object="o", result="ok"))
    door = sqlite3.connect(stage.path)
    for attack in ("UPDATE audit SET result = 'x'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            door.execute(attack)
    door.close()


# ------------------------------------------------------------------ off the loop


def test_slow_commits_move_to_a_thread_and_back_with_a_gap():
    committing = Committing()
    for _ in range(50):
        committing.took(0.0005)
    assert not committing.in_thread
    committing.took(0.02)
    assert not committing.in_thread, "one hiccup is no reason"
    for _ in range(10):
        committing.took(0.02)
    assert committing.in_thread
    for _ in range(200):
        committing.took(0.002)
    assert committing.in_thread, "between the two marks it stays where it is"
    for _ in range(200):
        committing.took(0.0005)
    assert not committing.in_thread


async def test_points_are_read_while_a_commit_is_in_its_thread(scene, monkeypatch):
    """What is read meanwhile is what was committed before."""
    first = await scene.submit("first")
    database = scene.ledger._driver._database
    database._committing.in_thread = True
    held, entered = threading.Event(), threading.Event()
    commit = Database._commit

    def slow(self):
        entered.set()
        held.wait(10)
        commit(self)

    monkeypatch.setattr(Database, "_commit", slow)
    second = asyncio.ensure_future(scene.submit("second"))
    await asyncio.to_thread(entered.wait, 10)
    try:
        assert await scene.ledger.run(first.run.id) == first.run
        assert await scene.ledger.latest("acme", "digits", "second") is None
        assert len(await scene.ledger.runs(RunFilter())) == 1
    finally:
        held.set()
    assert await scene.run((await second).run.id) is not None


async def test_the_log_is_copied_and_starts_again(scene, stage, monkeypatch):
    """Under steady writing the log stays within bounds: it is written over, not on and on."""
    log = stage.path.with_name("ledger.db-wal")

    async def grow():
        before = log.stat().st_size
        for _ in range(40):
            await asyncio.gather(*(scene.submit(scene.ids.run()) for _ in range(32)))
        return log.stat().st_size - before

    unchecked = await grow()
    monkeypatch.setattr(database_module, "_CHECKPOINT_PAGES", 200)
    monkeypatch.setattr(database_module, "_CATCH_UP_PAGES", 400)
    await grow()
    assert await grow() < unchecked / 4
    await scene.check_counters()


async def test_a_copy_that_fails_is_tried_again(scene, monkeypatch):
    """The log is whole and only longer: no write notices."""
    monkeypatch.setattr(database_module, "_CHECKPOINT_PAGES", 1)
    tries = []

    def checkpoint(database):
        tries.append(database)
        raise failing(sqlite3.SQLITE_IOERR_WRITE)

    monkeypatch.setattr(Database, "_checkpoint", checkpoint)
    for key in "abc":
        await scene.submit(key)
        await asyncio.wait([scene.ledger._driver._database._copying])
    assert len(tries) == 3
    assert len(await scene.states()) == 3


async def test_close_waits_for_the_copy(stage, monkeypatch):
    monkeypatch.setattr(database_module, "_CHECKPOINT_PAGES", 1)
    async with stage.ledger() as ledger:
        await Scene(stage, ledger).submit()
        assert ledger._driver._database._copying is not None
    assert not stage.path.with_name("ledger.db-wal").exists()


async def test_a_disk_that_can_not_hold_a_log_is_refused(stage, monkeypatch):
    """As a network's: SQLite stays with another journal there."""

    class Stubborn(sqlite3.Connection):
        def execute(self, sql, *values):
            return super().execute("PRAGMA journal_mode" if "journal_mode" in sql else sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **options: connect(name, factory=Stubborn, **options))
    await refused(stage, "choose a local disk")


async def test_close_leaves_one_file(stage):
    async with stage.ledger() as ledger:
        await Scene(stage, ledger).submit()
    assert sorted(path.name for path in stage.path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]


def test_memory_needs_no_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    async def play():
        async with open_ledger("sqlite://", clock=ManualClock()) as ledger:
            assert not ledger.features.survives_restart
            assert await ledger.runs(RunFilter()) == []

    asyncio.run(play())
    assert list(tmp_path.iterdir()) == []
