"""The serving face as clients meet it: submit, wait, join, ask again; on a real port and with real workers."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os

import pytest
from walking import GATED, Walk, until, walking

ROWS = """
def predict(self, batch):
    note("ran")
    return [{"rows": list(range(item["rows"]))} for item in batch]
"""


# ------------------------------------------------------------------ modes


async def test_a_quick_run_is_answered_in_the_same_request(walk: Walk) -> None:
    await walk.app()
    answer = await walk.infer("echo", {"n": 1})
    assert (answer.status, answer.json()) == (200, {"n": 1})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["penstock-cache"] == "miss"
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.ticket == hashlib.sha256(b'{"n":1}').hexdigest()
    assert (await walk.record(answer.run_id))["state"] == "SUCCEEDED"


async def test_whoever_does_not_wait_gets_a_ticket_that_says_where_and_when_to_ask(walk: Walk) -> None:
    await walk.app(source=GATED)
    for prefer in ("respond-async", "wait=0"):
        answer = await walk.ask("POST", "/v1/echo/infer", {"n": prefer}, prefer=prefer)
        ticket = answer.json()
        assert (answer.status, ticket["ticket"], ticket["run_id"]) == (202, answer.ticket, answer.run_id)
        assert answer.headers["preference-applied"] == prefer
        assert answer.headers["location"] == ticket["status_url"] == f"{walk.url}/v1/echo/status/{answer.ticket}"
        assert answer.headers["retry-after"] == str(ticket["retry_after"])
        assert 1 <= ticket["retry_after"] <= 60
        assert 0 < ticket["eta"]["p50"] == ticket["etaSeconds"] <= ticket["eta"]["p90"]
        assert ticket["state"] in ("QUEUED", "RUNNING")


async def test_a_poll_tells_what_is_and_a_long_poll_waits_for_what_comes(walk: Walk) -> None:
    await walk.app(source=GATED)
    ticket = (await walk.submit("echo", {"n": 1})).json()["ticket"]
    await walk.noted("began 1")
    now = await walk.poll("echo", ticket, wait=0)
    assert (now.status, now.json()["state"], now.headers["penstock-state"]) == (202, "RUNNING", "RUNNING")
    waiting = asyncio.create_task(walk.poll("echo", ticket))
    walk.open("go")
    done = await waiting
    assert (done.status, done.json(), done.headers["preference-applied"]) == (200, {"n": 1}, "wait=20")
    head = await walk.ask("HEAD", f"/v1/echo/status/{ticket}")
    assert (head.status, head.headers["penstock-state"], head.body) == (200, "SUCCEEDED", b"")


async def test_t_sync_is_what_the_deployment_says_and_prefer_changes_it(tmp_path) -> None:
    async with walking(tmp_path, t_sync_seconds=0.2) as walk:
        await walk.app(source=GATED)
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await walk.ask("POST", "/v1/echo/infer", {"n": 1})
        assert answer.status == 202
        assert 0.2 <= loop.time() - began < 2.0
        assert "preference-applied" not in answer.headers
        began = loop.time()
        assert (await walk.infer("echo", {"n": 1}, wait=1)).status == 202
        assert 1.0 <= loop.time() - began < 3.0


# ------------------------------------------------------------------ keys


async def test_equal_requests_in_flight_are_one_execution(walk: Walk) -> None:
    await walk.app(source=GATED)
    many = [asyncio.create_task(walk.infer("echo", {"n": 1})) for _ in range(20)]
    await walk.noted("began 1")
    walk.open("go")
    answers = await asyncio.gather(*many)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.run_id for answer in answers}) == 1
    assert sorted({answer.headers["penstock-cache"] for answer in answers}) == ["joined", "miss"]
    assert walk.journal == ["began 1"]


async def test_a_hit_is_answered_without_a_worker(walk: Walk) -> None:
    await walk.app(worker="{ idleExitSeconds: 0.2 }")
    first = await walk.infer("echo", {"n": 1})
    await walk.no_worker()
    again = await walk.infer("echo", {"n": 1})
    assert (again.status, again.headers["penstock-cache"], again.body) == (200, "hit", first.body)
    assert again.run_id == first.run_id
    await walk.platform.controller.tick()
    assert len(await walk.workers(live=False)) == 1
    assert walk.journal == ["ran"]


async def test_an_app_without_a_cache_still_joins_what_is_in_flight(walk: Walk) -> None:
    await walk.app(source=GATED, results="{ cache: false }")
    first = await walk.submit("echo", {"n": 1})
    second = await walk.submit("echo", {"n": 1})
    assert (second.run_id, second.headers["penstock-cache"]) == (first.run_id, "joined")
    walk.open("go")
    assert (await walk.poll("echo", first.ticket)).status == 200
    third = await walk.infer("echo", {"n": 1})
    assert (third.status, third.headers["penstock-cache"]) == (200, "miss")
    assert third.run_id != first.run_id
    assert walk.journal == ["began 1", "began 1"]


async def test_of_two_bodies_under_one_rid_the_first_wins_and_the_second_is_told(walk: Walk) -> None:
    await walk.app(source=GATED)
    first = await walk.submit("echo", {"_rid": "same", "n": 1})
    second = await walk.submit("echo", {"_rid": "same", "n": 2})
    assert (second.run_id, second.headers["penstock-rid-reused"]) == (first.run_id, "true")
    walk.open("go")
    third = await walk.infer("echo", {"_rid": "same", "n": 3})
    assert (third.json()["n"], third.headers["penstock-rid-reused"], third.ticket) == (1, "true", "same")
    repeat = await walk.infer("echo", {"_rid": "same", "n": 1})
    assert "penstock-rid-reused" not in repeat.headers
    assert walk.journal == ["began 1"]


async def test_what_failed_or_was_cancelled_starts_a_new_generation(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if not is_open("mended"):
            raise InvalidInput("not yet")
        return batch
    """
    await walk.app(source=source)
    failed = await walk.infer("echo", {"_rid": "again"})
    failed.problem(422, "INVALID_INPUT")
    await walk.wish("echo", "pause")
    cancelled = await walk.submit("echo", {"_rid": "again"})
    await walk.cancel("echo", "again")
    walk.open("mended")
    await walk.wish("echo", "resume")
    done = await walk.infer("echo", {"_rid": "again"})
    assert (done.status, done.headers["penstock-cache"]) == (200, "miss")
    generations = [(await walk.record(one.run_id)).get("generation", 1) for one in (failed, cancelled, done)]
    assert generations == [1, 2, 3]


@pytest.mark.parametrize(
    "rid",
    [
        'O\'Brien "x"',
        "../../etc/passwd",
        "a/b\\c",
        "x" * 10_240,
        "ünïcödé \u2028",
        "-leads",
        " ",
        "%2e%2e%2f",
        "a\x00b",
    ],
    ids=["quotes", "climbs", "slashes", "10kB", "unicode", "dash", "space", "percent", "nul"],
)
async def test_an_unsafe_rid_becomes_a_safe_ticket_and_works_as_any_other(walk: Walk, rid: str) -> None:
    await walk.app(source="def predict(self, batch): note('ran'); return [os.urandom(40_000) for _ in batch]")
    answer = await walk.infer("echo", {"_rid": rid, "blob": "x" * 40_000})
    assert (answer.status, answer.ticket) == (200, hashlib.sha256(rid.encode()).hexdigest())
    assert (await walk.poll("echo", answer.ticket)).body == answer.body
    assert (await walk.infer("echo", {"_rid": rid})).headers["penstock-cache"] == "hit"
    assert walk.journal == ["ran"]
    store = walk.path / "state" / "store"
    assert sorted(path.name for path in store.rglob(f"{answer.ticket}*")) == [answer.ticket, f"{answer.ticket}.gz"]


# ------------------------------------------------------------------ Idempotency-Key


async def test_an_idempotency_key_pins_its_run(walk: Walk) -> None:
    await walk.app(source=GATED, results="{ cache: false }")
    first = await walk.submit("echo", {"n": 1}, idempotency_key='"order-7"')
    again = await walk.submit("echo", {"n": 1}, idempotency_key="order-7")
    assert (again.run_id, again.headers["penstock-cache"]) == (first.run_id, "joined")
    (await walk.infer("echo", {"n": 2}, idempotency_key="order-7")).problem(422, "INVALID")
    walk.open("go")
    assert (await walk.poll("echo", first.ticket)).status == 200
    late = await walk.infer("echo", {"n": 1}, idempotency_key="order-7")
    assert (late.status, late.run_id) == (200, first.run_id)  # although the app has no cache
    other = await walk.infer("echo", {"n": 1}, idempotency_key="order-8")
    assert other.run_id != first.run_id


async def test_an_idempotency_key_repeats_the_first_answer_to_a_retry(walk: Walk) -> None:
    await walk.app(source="def predict(self, batch): raise InvalidInput('never')")
    failed = await walk.infer("echo", {"n": 1})
    path = f"/v1/runs/{failed.run_id}/retry"
    first = await walk.ask("POST", path, idempotency_key="once")
    assert first.status == 202
    second = await walk.ask("POST", path, idempotency_key="once")
    assert (second.status, second.json()) == (202, first.json())


# ------------------------------------------------------------------ forms of a result


async def test_a_result_is_compressed_for_whoever_takes_that(walk: Walk) -> None:
    await walk.app(source=ROWS)
    plain = await walk.infer("echo", {"rows": 2000})
    packed = await walk.infer("echo", {"rows": 2000}, accept_encoding="gzip")
    refused = await walk.infer("echo", {"rows": 2000}, accept_encoding="gzip;q=0, identity")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body == refused.body
    assert plain.headers["vary"] == "accept-encoding"
    assert packed.headers["content-type"] == "application/json"
    assert walk.journal == ["ran"]


async def test_a_results_content_type_is_the_handlers(walk: Walk) -> None:
    await walk.app(source="def predict(self, batch): return [Response(b'\\x89PNG', 'image/png') for _ in batch]")
    answer = await walk.infer("echo", b"draw")
    assert (answer.body, answer.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_large_bodies_and_results_go_between_worker_and_store(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note(len(batch[0]))
        return [item * 5 for item in batch]
    """
    await walk.app(source=source)
    body = os.urandom(1024 * 1024)
    answer = await walk.infer("echo", body, content_type="application/octet-stream")
    assert answer.status == 200
    assert answer.body == body * 5
    assert walk.journal == [str(len(body))]
    run = await walk.run(answer.run_id)
    assert run.result is not None
    assert (run.body.inline, run.result.inline) == (None, None)
    home = walk.path / "state" / "store" / "AppData" / "echo"
    names = {str(path.relative_to(home)) for path in home.rglob("*") if answer.ticket in path.name}
    assert names == {f"requests/{answer.ticket}", f"results/{answer.ticket}.gz"}
    packed = await walk.poll("echo", answer.ticket, accept_encoding="gzip")
    assert gzip.decompress(packed.body) == answer.body
    assert await walk.platform.store.get(run.result.key or "") == packed.body


async def test_a_result_above_the_apps_limit_fails_and_says_so(walk: Walk) -> None:
    await walk.app(
        source="def predict(self, batch): return [b'x' * 5000 for _ in batch]", results="{ maxResultBytes: 4000 }"
    )
    problem = await walk.refused("echo", {"n": 1}, 500, "RESULT_TOO_LARGE")
    assert "4000" in problem["detail"]


# ------------------------------------------------------------------ order


async def test_priority_9_is_served_first_and_equals_in_the_order_they_came(walk: Walk) -> None:
    await walk.app(source="def predict(self, batch): note(batch[0]['n']); return batch")
    await walk.wish("echo", "pause")
    for n, priority in enumerate((0, 5, 9, 5, 9)):
        await walk.submit("echo", {"n": n}, penstock_priority=str(priority))
    await walk.submit("echo", {"n": 0}, penstock_priority="9")  # who joins with a higher one raises it
    await walk.wish("echo", "resume")
    await until(lambda: len(walk.journal) == 5)
    assert walk.journal == ["0", "2", "4", "1", "3"]


async def test_a_returned_run_goes_to_the_head_of_its_lane(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note(f"{batch[0]['n']} {current_run().epoch}")
        hold("go")
        if current_run().epoch == 1 and batch[0]["n"] == 0:
            raise Retry("once more", after=0)
        return batch
    """
    await walk.app(source=source)
    await walk.submit("echo", {"n": 0}, penstock_priority="0")
    await walk.noted("0 1")
    for n in (1, 2, 3):
        await walk.submit("echo", {"n": n}, penstock_priority="9")
    walk.open("go")
    await until(lambda: len(walk.journal) == 5)
    order = [line.split()[0] for line in walk.journal]
    assert order.index("0", 1) < order.index("3"), order  # before those of a higher priority that were not leased yet
