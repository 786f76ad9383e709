"""What is refused before it reaches a database, and which URLs name a ledger."""

import pytest
from msgspec.structs import replace

from penstock.errors import Invalid, Misconfigured
from penstock.ledger import _ledger, open_ledger
from penstock.ledger._checks import check
from penstock.ledger.commands import (
    Accept,
    Again,
    Cancel,
    Clear,
    EndWorker,
    Extend,
    GrantExit,
    Lease,
    Mend,
    NewRun,
    NoteWorker,
    Settle,
    Sweep,
    TakeLead,
)
from penstock.model.fleet import WorkerState
from penstock.model.run import Lane, Outcome, Payload, Report, Terms
from penstock.testing.clock import ManualClock

RUN = NewRun(
    id="r", tenant="t", app="a", lane=Lane.INFER, key="k", spec_generation=1, body=Payload(inline=b""), sha256=""
)

NONSENSE = [
    *(Accept(run=replace(RUN, **{name: ""})) for name in ("id", "tenant", "app", "key")),
    *(Accept(run=replace(RUN, **{name: "x" * 513})) for name in ("id", "tenant", "app", "key", "tag")),
    Accept(run=replace(RUN, priority=-1)),
    Accept(run=replace(RUN, priority=10)),
    Accept(run=replace(RUN, weight=0.0)),
    Accept(run=replace(RUN, body=Payload(inline=b"", key="k"))),
    Accept(run=replace(RUN, terms=Terms(max_attempts=0))),
    Accept(run=replace(RUN, terms=Terms(lease_seconds=0.0))),
    Accept(run=replace(RUN, terms=Terms(run_deadline_seconds=-1.0))),
    Again(run_id="r", new_id=""),
    Again(run_id="r", new_id="s", terms=Terms(max_attempts=0)),
    Lease(worker_uid="w", app="a", lane=Lane.INFER, count=-1),
    Settle(run_id="r", epoch=1, report=Report(Outcome.RETRY, retry_after=-1.0)),
    Extend(run_id="r", epoch=1, progress=1.1),
    Extend(run_id="r", epoch=1, progress=-0.1),
    Extend(run_id="r", epoch=1, progress=float("nan")),
    Clear(app="a", limit=0),
    Mend(sweep=Sweep.DUE, limit=0),
    NoteWorker(uid="w", state=WorkerState.LOST),
    EndWorker(uid="w", state=WorkerState.DRAINING),
    GrantExit(uid="w", keep=-1),
    TakeLead(name="n", holder="h", ttl_seconds=0.0),
]

SENSE = [
    Accept(run=RUN),
    Accept(run=replace(RUN, priority=0, tag="x" * 512)),
    Again(run_id="r", new_id="s"),
    Again(run_id="r", new_id="s", terms=Terms()),
    Lease(worker_uid="w", app="a", lane=Lane.INFER, count=0),
    Settle(run_id="r", epoch=1, report=Report(Outcome.RETRY, retry_after=0.0)),
    Extend(run_id="r", epoch=1, progress=1.0),
    Extend(run_id="r", epoch=1),
    Clear(app="a", limit=1),
    Mend(sweep=Sweep.DUE, limit=1),
    NoteWorker(uid="w", state=WorkerState.DRAINING),
    NoteWorker(uid="w"),
    EndWorker(uid="w", state=WorkerState.LOST),
    GrantExit(uid="w"),
    TakeLead(name="n", holder="h"),
    Cancel(run_id=""),
]


@pytest.mark.parametrize("command", NONSENSE)
def test_nonsense_is_refused_by_its_kind_and_fault(command):
    with pytest.raises(Invalid, match=f"^{type(command).__name__}: "):
        check(command)


@pytest.mark.parametrize("command", SENSE)
def test_sense_passes(command):
    check(command)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nosuch:///x",
        "/just/a/path",
        "sqlite://relative.db",
        "sqlite://relative/ledger.db",
        "sqlite:///folder/",
        "sqlite:///x.db?mode=ro",
        "sqlite:///x.db#y",
    ],
)
def test_a_url_that_names_no_ledger_says_what_would(url):
    with pytest.raises(Misconfigured, match=r"sqlite:///abs/path\.db"):
        open_ledger(url, clock=ManualClock())


def test_a_path_may_hold_anything_escaped(tmp_path):
    ledger = open_ledger(f"sqlite://{tmp_path}/a%20b%3F.db", clock=ManualClock())
    assert not ledger.features.many_processes
    assert "kill -9" in ledger.features.durability


def test_others_may_bring_drivers(monkeypatch):
    """A driver of someone else's is found by its entry point, under its scheme."""
    asked = []

    def connect(url, *, clock):
        asked.append((url, clock))
        return "a driver"

    class Found:
        def load(self):
            return connect

    found = {("penstock.ledger", "theirs"): [Found()]}
    monkeypatch.setattr(_ledger, "entry_points", lambda *, group, name: found[group, name])
    monkeypatch.setattr(_ledger, "Ledger", lambda driver, **_options: driver)
    clock = ManualClock()
    assert open_ledger("theirs://host/db", clock=clock) == "a driver"
    assert asked == [("theirs://host/db", clock)]
