"""The PostgreSQL driver's parts that need no server: its URL, its errors, its migrations, its counters."""

import asyncio
import re

import asyncpg
import pytest

from penstock.errors import Misconfigured, Unavailable
from penstock.ledger import migrate, open_ledger
from penstock.ledger.postgres import schema
from penstock.ledger.postgres.errors import contended, translation
from penstock.ledger.postgres.place import Place
from penstock.ledger.sql.lines import Lines
from penstock.model.run import Lane
from penstock.testing.clock import ManualClock

# ------------------------------------------------------------------ the URL


def test_a_url_is_read_and_named_without_its_password():
    place = Place.of("postgresql://ann:secret@db.test:5433/ledger?sslmode=require&schema=blue")
    assert place.dsn == "postgresql://ann:secret@db.test:5433/ledger?sslmode=require"
    assert (place.name, place.schema, place.callers_clock) == ("postgresql://db.test:5433/ledger", "blue", False)


def test_what_is_not_said_has_its_default():
    place = Place.of("postgres://db.test/ledger")
    assert (place.schema, place.callers_clock) == ("penstock", False)
    assert Place.of("postgresql://h/d?clock=caller").callers_clock


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("postgresql://ann:secret@host", "names no database"),
        ("postgresql://ann:secret@host/", "names no database"),
        ("postgresql://ann:secret@host/a/b", "names no database"),
        ("postgresql://ann:secret@host/db#x", "names no database"),
        ("postgresql://ann:secret@host:port/db", "[Pp]ort"),
        ("postgresql://ann:secret@host/db?schema=x;DROP", "no plain name"),
        ("postgresql://ann:secret@host/db?schema=", "no plain name"),
        ("postgresql://ann:secret@host/db?clock=wall", "`database` or `caller`"),
    ],
)
def test_a_wrong_url_says_what_to_write(url, match):
    with pytest.raises(Misconfigured, match=match) as raised:
        open_ledger(url, clock=ManualClock())
    assert "secret" not in str(raised.value)


async def test_a_url_that_the_library_can_not_follow_is_refused():
    ledger = open_ledger("postgresql://host/db?sslmode=perhaps", clock=ManualClock())
    with pytest.raises(Misconfigured, match="can't be followed"):
        await ledger.open()


async def test_a_ledger_of_one_process_needs_no_migration(tmp_path):
    assert await migrate(f"sqlite://{tmp_path}/ledger.db") == []
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "penstock.ledger.postgres", None)
    with pytest.raises(Misconfigured, match=r"pip install 'penstock\[postgres\]'"):
        open_ledger("postgresql://host/db", clock=ManualClock())


# ------------------------------------------------------------------ errors


def of_code(code):
    return asyncpg.PostgresError.new({"C": code, "M": "told", "S": "ERROR"})


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("08006", Unavailable),
        ("25006", Unavailable),
        ("40001", Unavailable),
        ("40P01", Unavailable),
        ("53100", Unavailable),
        ("53200", Unavailable),
        ("53300", Unavailable),
        ("55P03", Unavailable),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("57P03", Unavailable),
        ("58030", Unavailable),
        ("28P01", Misconfigured),
        ("28000", Misconfigured),
        ("3D000", Misconfigured),
        ("42501", Misconfigured),
        ("42P01", Misconfigured),
        ("42703", Misconfigured),
        ("XX001", Misconfigured),
        ("22021", type(None)),
        ("23505", type(None)),
        ("42601", type(None)),
        ("XX000", type(None)),
    ],
)
def test_errors_are_translated_once(code, wanted):
    found = translation(of_code(code), "ledger.test")
    assert type(found) is wanted
    assert found is None or "ledger.test" in found.detail


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
        asyncio.IncompleteReadError(b"", 4),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 15"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    ],
)
def test_whoever_can_not_be_reached_is_unavailable(error):
    assert isinstance(translation(error, "ledger.test"), Unavailable)


def test_other_errors_are_nobodys_outage():
    assert translation(ValueError("x"), "ledger.test") is None
    assert not contended(ValueError("x"))


def test_what_lost_a_race_is_done_again():
    assert [contended(of_code(code)) for code in ("40001", "40P01", "23505")] == [True, True, False]
    assert contended(asyncpg.InvalidCachedStatementError("cached plan must not change result type"))


# ------------------------------------------------------------------ migrations


def test_migrations_are_numbered_without_gaps():
    steps = schema.migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].version == schema.VERSION
    assert all(re.fullmatch(r"\d{4}_[a-z_]+\.sql", step.name) for step in steps)


def test_the_version_before_may_stay():
    """A step that the code before it can't live with would take the deployment down while it rolls."""
    assert all(step.oldest_code <= max(1, step.version - 1) for step in schema.migrations())


def test_a_step_may_say_whom_it_needs():
    assert schema._migration("0007_x.sql", "SELECT 1").oldest_code == 6
    assert schema._migration("0007_x.sql", "-- oldest code: 3\nSELECT 1").oldest_code == 3


# ------------------------------------------------------------------ whose turn it is, where others hold some


def line_of(**shares):
    lines = Lines()
    line = lines.add_line(1, "app", Lane.INFER)
    for number, (tenant, (in_line, vtime)) in enumerate(shares.items(), 1):
        share = lines.add_share(number, line, tenant)
        share.in_line, share.vtime = in_line, vtime
        line.active.add(share)
    return line


def test_turns_that_a_share_can_not_take_are_taken_by_the_next():
    line = line_of(poor=(5, 0.0), rich=(5, 100.0))
    poor, rich = line.shares["poor"], line.shares["rich"]
    assert line.turns(4) == [poor] * 4
    assert line.turns(4, {poor: 1}) == [poor, rich, rich, rich]
    assert line.turns(4, {poor: 0, rich: 2}) == [rich, rich]
    assert line.turns(9, {poor: 0, rich: 0}) == []


def test_a_share_alone_gives_what_it_has():
    line = line_of(only=(5, 0.0))
    (only,) = line.active
    assert line.turns(9) == [only] * 5
    assert line.turns(9, {only: 2}) == [only] * 2
