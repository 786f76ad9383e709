"""The ten promises of the docs, each by its number, on real parts: a gateway, a ledger file, worker processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from walking import GATED, PretendWorker, Walk, pretend, until

from penstock.model.run import Outcome
from penstock.serving import Submission

COUNTED = """
def predict(self, batch):
    for item in batch:
        note(f"began {item['n']} {os.getpid()}")
        if current_run().epoch == 1:
            hold("never")
    return batch
"""


def rows(walk: Walk, question: str) -> list[tuple[Any, ...]]:
    """Ask the ledger's file itself, past every line of the product."""
    with closing(sqlite3.connect(f"file:{walk.path}/state/ledger.db?mode=ro", uri=True)) as door:
        return door.execute(question).fetchall()


def everything(walk: Walk) -> list[list[tuple[Any, ...]]]:
    """Give all that is stored of runs."""
    return [rows(walk, f"SELECT * FROM {table}") for table in ("runs", "attempts", "results", "checkpoints")]


async def test_promise_1_acceptance_means_that_body_and_record_are_on_disk(walk: Walk) -> None:
    await walk.app()
    await walk.wish("echo", "pause")
    small = await walk.submit("echo", b"few bytes")
    large = await walk.submit("echo", os.urandom(100_000))
    found = rows(walk, "SELECT run_id, state, bytes, object FROM runs JOIN bodies USING (seq) ORDER BY seq")
    assert found[0] == (small.run_id, "QUEUED", b"few bytes", None)
    assert found[1][:3] == (large.run_id, "QUEUED", None)
    (object_file,) = (walk.path / "state" / "store").rglob(large.json()["ticket"])
    assert object_file.stat().st_size >= 100_000


async def test_promise_2_delivery_is_repeated_and_publication_is_not(walk: Walk) -> None:
    await walk.app(source=COUNTED)
    ticket = await walk.submit("echo", {"n": 1})
    worker = await walk.holder(ticket.run_id)
    await until(lambda: walk.journal)
    os.kill(worker.pid or 0, signal.SIGKILL)
    answer = await walk.poll("echo", ticket.json()["ticket"])
    assert answer.status == 200
    record = await walk.record(ticket.run_id)
    assert [attempt["state"] for attempt in record["attempts"]] == ["LOST", "SUCCEEDED"]
    assert [line.rpartition(" ")[0] for line in walk.journal] == ["began 1", "began 1"]
    assert record["attempts"][0]["worker_uid"] != record["attempts"][1]["worker_uid"]
    assert not record.get("failures")  # none was charged


async def test_promise_2_a_killed_workers_run_runs_again_within_its_lease_and_5_seconds(walk: Walk) -> None:
    await walk.app(source=COUNTED)
    ticket = await walk.submit("echo", {"n": 1})
    worker = await walk.holder(ticket.run_id)
    await until(lambda: walk.journal)
    os.kill(worker.pid or 0, signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    await until(lambda: len(walk.journal) == 2)
    assert asyncio.get_running_loop().time() - began < 5 + 5


@pytest.fixture
async def zombie(walk: Walk) -> tuple[PretendWorker, dict[str, Any], str]:
    """Give a worker whose run another has taken over and finished, what it held, and the run's id."""
    await walk.app(deadlines="{ leaseSeconds: 0.2 }")
    old, new = await pretend(walk, "w-echo-old"), await pretend(walk, "w-echo-new")
    ticket = await walk.submit("echo", {"n": 1})
    (held,) = await old.lease()
    (taken_over,) = await new.lease()
    assert await new.settle(taken_over) == "ok"
    return old, held, ticket.run_id


@pytest.mark.parametrize("verb", ["settle", "extend", "checkpoint", "urls"])
async def test_promise_3_fencing_a_stale_attempt_changes_nothing(
    walk: Walk, zombie: tuple[PretendWorker, dict[str, Any], str], verb: str
) -> None:
    old, held, run_id = zombie
    before = everything(walk)
    attempt = {name: held[name] for name in ("run_id", "epoch", "token")}
    match verb:
        case "settle":
            assert await old.settle(held) == "stale"
        case "extend":
            answer = await old.call("extend", {"attempts": [{**attempt, "progress": 0.1}]})
            assert answer.json()["lost"] == [run_id]
        case "checkpoint":
            assert (await old.call("checkpoint", {**attempt, "data": "aGFsZg=="})).json()["code"] == "lost"
        case "urls":
            (await old.call("urls", {**attempt, "result_bytes": 3})).problem(409, "STALE")
    assert everything(walk) == before


async def test_promise_3_a_stale_report_is_counted_and_audited(
    walk: Walk, zombie: tuple[PretendWorker, dict[str, Any], str]
) -> None:
    old, held, run_id = zombie
    await old.settle(held)
    metrics = (await walk.ask("GET", "/metrics")).body.decode()
    assert [line for line in metrics.splitlines() if "stale" in line and line.endswith(" 1.0")]
    (row,) = await walk.platform.ledger.audited()
    told = (row.tenant, row.subject, row.action, row.object, row.result, row.reason)
    assert told == ("default", old.uid, "settle", f"runs/{run_id}", "stale", "epoch 1")


async def test_promise_3_an_attempts_token_is_worth_nothing_in_another_workers_hands(walk: Walk) -> None:
    await walk.app(source=GATED)
    await walk.wish("echo", "pause")
    owner, thief = await pretend(walk, "w-echo-owner"), await pretend(walk, "w-echo-thief")
    ticket = await walk.submit("echo", {"n": 1})
    await walk.wish("echo", "resume")
    (held,) = await owner.lease()
    assert await thief.settle(held) == "stale"
    assert [(row.subject, row.result) for row in await walk.platform.ledger.audited()] == [(thief.uid, "forged")]
    assert (await walk.record(ticket.run_id))["state"] == "RUNNING"
    assert await owner.settle(held) == "ok"


async def test_promise_4_the_first_terminal_state_wins(walk: Walk) -> None:
    await walk.app(source=GATED)
    worker = await pretend(walk, "w-echo-one")
    ticket = await walk.submit("echo", {"n": 1})
    (held,) = await worker.lease()
    assert await worker.settle(held) == "ok"
    (await walk.cancel("echo", ticket.json()["ticket"])).problem(409, "CONFLICT")
    (await walk.ask("POST", f"/v1/runs/{ticket.run_id}/cancel")).problem(409, "CONFLICT")
    assert await worker.settle(held, outcome=Outcome.FAILED) == "already"
    late = {"attempts": [{**{name: held[name] for name in ("run_id", "epoch", "token")}, "progress": 0.5}]}
    assert (await worker.call("extend", late)).json()["lost"] == [ticket.run_id]
    await walk.platform.controller.maintain()
    record = await walk.record(ticket.run_id)
    assert (record["state"], record.get("progress"), record["epoch"]) == ("SUCCEEDED", None, 1)


async def test_promise_5_a_queued_run_cancels_at_once(walk: Walk) -> None:
    await walk.app()
    await walk.wish("echo", "pause")
    ticket = (await walk.submit("echo", {"n": 1})).json()
    waiting = asyncio.create_task(walk.poll("echo", ticket["ticket"]))
    cancelled = await walk.cancel("echo", ticket["ticket"])
    assert (cancelled.status, cancelled.json()["state"], cancelled.json()["reason"]) == (200, "CANCELLED", "BY_USER")
    (await waiting).problem(410, "BY_USER")  # who waits is told, for cancelling holds for all who joined
    again = await walk.cancel("echo", ticket["ticket"])
    assert (again.status, again.json()) == (200, cancelled.json())
    await walk.wish("echo", "resume")
    await walk.infer("echo", {"n": 2})
    assert walk.journal == ["ran"]


async def test_promise_5_a_running_run_is_told_at_its_next_heartbeat_and_no_success_shows(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note("began")
        while not current_run().cancelled:
            time.sleep(0.005)
        note("told")
        return batch
    """
    await walk.app(source=source, deadlines="{ leaseSeconds: 1 }")
    ticket = await walk.submit("echo", {"n": 1})
    await walk.noted("began")
    assert (await walk.cancel("echo", ticket.json()["ticket"])).status == 200
    await walk.noted("told")  # and then it answers, which nobody is to see
    assert (await walk.infer("echo", {"n": 2}, wait=0)).status == 202  # the worker goes on with the next
    await walk.noted("began", times=2)
    (await walk.poll("echo", ticket.json()["ticket"])).problem(410, "BY_USER")
    record = await walk.record(ticket.run_id)
    assert (record["state"], record.get("result"), len(await walk.workers(live=False))) == ("CANCELLED", None, 1)


async def test_promise_6_busy_workers_outlive_pause_drain_resume_and_a_new_spec(walk: Walk) -> None:
    await walk.app(source=GATED)
    ticket = await walk.submit("echo", {"n": 1})
    await walk.noted("began 1")
    worker = await walk.holder(ticket.run_id)
    for verb in ("pause", "drain", "resume"):
        await walk.wish("echo", verb)
        await walk.platform.controller.tick()
    await walk.app(source=GATED + "\n# another generation", scaling="{ maxInstances: 1, minInstances: 0 }")
    await walk.platform.controller.tick()
    await walk.platform.controller.maintain()
    os.kill(worker.pid or 0, 0)
    walk.open("go")
    assert (await walk.poll("echo", ticket.json()["ticket"])).status == 200
    record = await walk.record(ticket.run_id)
    assert [attempt["worker_uid"] for attempt in record["attempts"]] == [worker.uid]
    assert walk.journal == ["began 1"]


async def test_promise_6_a_new_spec_is_served_by_new_workers(walk: Walk) -> None:
    await walk.app(source="def predict(self, batch): return ['old' for _ in batch]")
    assert (await walk.infer("echo", {"n": 1})).body == b"old"
    applied = await walk.app(source="def predict(self, batch): return ['new' for _ in batch]")
    assert applied.json()["generation"] == 2

    async def renewed() -> bool:
        return [worker.spec_generation for worker in await walk.workers()] != [1]

    ticket = await walk.submit("echo", {"n": 2})  # it may still be the old worker's, which is no fault
    assert (await walk.poll("echo", ticket.json()["ticket"])).body in (b"old", b"new")
    await until(renewed)
    assert (await walk.infer("echo", {"n": 3})).body == b"new"


async def test_promise_7_unknown_is_not_pending_and_purged_is_not_unknown(walk: Walk) -> None:
    await walk.app(results="{ ttlHours: 0.0001 }")
    (await walk.poll("echo", "never-issued")).problem(404, "NOT_FOUND")
    (await walk.poll("nobody", "never-issued")).problem(404, "NOT_FOUND")
    done = await walk.infer("echo", {"n": 1})
    assert done.status == 200

    async def purged() -> bool:
        await walk.platform.controller.maintain()
        return (await walk.record(done.run_id)).get("purged_at") is not None

    await until(purged)
    (await walk.poll("echo", done.ticket)).problem(410, "GONE")
    (await walk.ask("GET", f"/v1/runs/{done.run_id}/result")).problem(410, "GONE")
    assert (await walk.record(done.run_id))["state"] == "SUCCEEDED"
    assert (await walk.infer("echo", {"n": 1})).headers["penstock-cache"] == "miss"
    assert walk.journal == ["ran", "ran"]


async def test_promise_8_a_run_that_waits_too_long_ends_and_says_why(walk: Walk) -> None:
    await walk.app()
    await walk.wish("echo", "pause")
    ticket = await walk.submit("echo", {"n": 1}, penstock_deadline="0.2")
    problem = (await walk.poll("echo", ticket.json()["ticket"])).problem(504, "QUEUE_EXPIRED")
    assert (problem["state"], problem["retryable"]) == ("FAILED", False)
    assert (await walk.record(ticket.run_id))["reason"] == "QUEUE_EXPIRED"


async def test_promise_8_the_specs_queue_ttl_holds_where_no_header_asks_for_less(walk: Walk) -> None:
    await walk.app(deadlines="{ queueTtlSeconds: 0.2 }")
    await walk.wish("echo", "pause")
    for asked in ({}, {"penstock_deadline": "3600"}):
        ticket = await walk.submit("echo", {"n": len(asked)}, **asked)
        (await walk.poll("echo", ticket.json()["ticket"])).problem(504, "QUEUE_EXPIRED")


async def test_promise_8_a_silent_worker_loses_its_run(walk: Walk) -> None:
    await walk.app(deadlines="{ leaseSeconds: 0.2 }")
    silent, other = await pretend(walk, "w-echo-silent"), await pretend(walk, "w-echo-other")
    ticket = await walk.submit("echo", {"n": 1})
    assert len(await silent.lease()) == 1
    (again,) = await other.lease()
    assert await other.settle(again) == "ok"
    assert (await walk.poll("echo", ticket.json()["ticket"])).status == 200
    lost, won = (await walk.record(ticket.run_id))["attempts"]
    assert (lost["state"], lost["reason"], won["state"]) == ("LOST", "LEASE_LOST", "SUCCEEDED")


async def test_promise_9_a_tenant_sees_nothing_of_another(walk: Walk) -> None:
    await walk.app()
    asked = Submission(tenant="other", app="echo", body=b'{"_rid": "mine"}', content_type="application/json", tag="t")
    theirs = (await walk.platform.intake.accept(asked)).run
    assert (await walk.platform.intake.settled(theirs, 20)).state == "SUCCEEDED"
    (await walk.poll("echo", "mine")).problem(404, "NOT_FOUND")
    (await walk.cancel("echo", "mine")).problem(404, "NOT_FOUND")
    for verb in ("", "/result", "/explain", "/events"):
        (await walk.ask("GET", f"/v1/runs/{theirs.id}{verb}")).problem(404, "NOT_FOUND")
    for verb in ("cancel", "retry"):
        (await walk.ask("POST", f"/v1/runs/{theirs.id}/{verb}")).problem(404, "NOT_FOUND")
    for query in ("", "?tag=t", "?app=echo", "?state=SUCCEEDED"):
        assert (await walk.ask("GET", f"/v1/runs{query}")).json()["items"] == []
    mine = await walk.infer("echo", {"_rid": "mine"})
    assert (mine.status, mine.headers["penstock-cache"]) == (200, "miss")
    assert mine.run_id != theirs.id
    assert "other" not in (await walk.ask("GET", "/metrics")).body.decode()


async def test_promise_10_every_placement_is_explained(walk: Walk) -> None:
    await walk.app()
    done = await walk.infer("echo", {"n": 1})
    (decision,) = (await walk.ask("GET", "/v1/apps/echo/decisions")).json()["items"]
    assert decision["chosen"] == "local"
    assert decision["workers"] == [worker.uid for worker in await walk.workers()]
    assert decision["notes"]
    assert (await walk.record(done.run_id))["placement"]["id"] == decision["id"]
    known = {decision["chosen"], *decision.get("survivors", []), *decision.get("dropped", {})}
    assert known == {candidate["key"] for candidate in [{"key": "local"}]}
