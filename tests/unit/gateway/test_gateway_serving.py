"""Submit, wait, ask again, cancel: what a client of the serving face may rely on."""

from __future__ import annotations

import asyncio
import gzip
import hashlib

import pytest
from gateway_stack import a_stack, exchange

from penstock.ledger.commands import Mend, Sweep
from penstock.model.app import App, Results
from penstock.model.run import Outcome, Reason

ASYNC = {"Prefer": "respond-async"}


async def served(stack, asking, outcome=Outcome.SUCCEEDED, **more):
    """Give the answer to a request that waits while a worker takes its run and ends it so."""
    worker = await stack.worker()
    answer, _ = await asyncio.gather(asking, worker.serve(outcome, **more))
    return answer


async def test_a_result_in_time_comes_as_the_handler_gave_it(stack):
    asking = stack.infer(b'{"x": 1}', Prefer="wait=20", content_type="application/json")
    answer = await served(stack, asking, result=b'{"y": 2}', content_type="application/json")
    assert (answer.status, answer.body) == (200, b'{"y": 2}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["penstock-cache"] == "miss"
    assert answer.headers["preference-applied"] == "wait=20"
    assert len(answer.headers["penstock-run-id"]) == 36
    assert "content-encoding" not in answer.headers


async def test_a_repeat_is_a_hit_and_wakes_nobody(stack):
    first = await served(stack, stack.infer(b"one", Prefer="wait=20"), result=b"1")
    again = await stack.infer(b"one")
    assert (again.status, again.body, again.headers["penstock-cache"]) == (200, b"1", "hit")
    assert again.headers["penstock-run-id"] == first.headers["penstock-run-id"]
    assert await stack.services.queue.depth("echo-infer") == 0


async def test_what_is_not_done_in_time_is_a_ticket(stack):
    answer = await stack.infer(b"slow")
    ticket = hashlib.sha256(b"slow").hexdigest()
    told = answer.json()
    assert answer.status == 202
    assert set(told) == {
        "ticket", "run_id", "state", "retry_after", "etaSeconds", "eta", "position", "status_url",
    }  # fmt: skip
    assert (told["ticket"], told["state"]) == (ticket, "QUEUED")
    assert told["status_url"] == answer.headers["location"] == f"http://127.0.0.1:8080/v1/echo/status/{ticket}"
    assert answer.headers["retry-after"] == str(told["retry_after"])
    assert told["eta"]["p90"] >= told["eta"]["p50"] > 0


async def test_equal_requests_in_flight_are_one_execution(stack):
    worker = await stack.worker()
    asking = [stack.infer(b"same", Prefer="wait=20") for _ in range(5)]
    *answers, held = await asyncio.gather(*asking, worker.serve(result=b"r"))
    assert {answer.body for answer in answers} == {b"r"}
    assert {answer.headers["penstock-run-id"] for answer in answers} == {held.run_id}
    assert sorted(answer.headers["penstock-cache"] for answer in answers) == ["joined"] * 4 + ["miss"]


async def test_the_rid_names_the_run_and_the_first_body_wins(stack):
    first = await stack.infer(b'{"_rid": "a.b-1", "x": 1}', **ASYNC)
    assert first.json()["ticket"] == "a.b-1"
    assert "penstock-rid-reused" not in first.headers
    other = await stack.infer(b'{"_rid": "a.b-1", "x": 2}', **ASYNC)
    assert other.headers["penstock-rid-reused"] == "true"
    assert other.json()["run_id"] == first.json()["run_id"]
    same = await stack.infer(b'{"_rid": "a.b-1", "x": 1}', **ASYNC)
    assert "penstock-rid-reused" not in same.headers
    done = await served(stack, stack.ask("GET", "/v1/echo/status/a.b-1", headers={"Prefer": "wait=20"}), result=b"1")
    assert done.body == b"1"
    late = await stack.infer(b'{"_rid": "a.b-1", "x": 3}')
    assert (late.status, late.headers["penstock-cache"], late.headers["penstock-rid-reused"]) == (200, "hit", "true")


@pytest.mark.parametrize("rid", ['it\'s "quoted"', "../../etc/passwd", "x" * 10_000, "a\nb", "\u00e9", " ", ""])
async def test_an_unsafe_rid_becomes_a_digest(stack, rid):
    import msgspec

    answer = await stack.infer(msgspec.json.encode({"_rid": rid}), **ASYNC)
    ticket = answer.json()["ticket"]
    assert ticket == hashlib.sha256(rid.encode()).hexdigest()
    assert (await stack.ask("GET", f"/v1/echo/status/{ticket}")).status == 202


async def test_a_body_nested_beyond_reading_has_no_rid(stack):
    body = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"_rid":"x"}'
    answer = await stack.infer(body, **ASYNC)
    assert answer.json()["ticket"] == hashlib.sha256(body).hexdigest()


async def test_without_a_cache_finished_runs_are_run_again(stack):
    await stack.services.catalog.apply(App(name="echo", handler="echo:Echo", results=Results(cache=False)))
    await served(stack, stack.infer(b"one", Prefer="wait=20"), result=b"1")
    again = await stack.infer(b"one", **ASYNC)
    assert (again.status, again.headers["penstock-cache"]) == (202, "miss")


ENDS = [
    (Outcome.FAILED, Reason.INVALID_INPUT, 422),
    (Outcome.FAILED, Reason.HANDLER_ERROR, 500),
    (Outcome.FAILED, Reason.OOM, 500),
    (Outcome.FAILED, Reason.DEADLINE_EXCEEDED, 504),
]


@pytest.mark.parametrize(("outcome", "reason", "status"), ENDS)
async def test_an_end_without_a_result_is_a_problem_with_the_reason(stack, outcome, reason, status):
    asking = stack.infer(b"bad", Prefer="wait=20")
    answer = await served(stack, asking, outcome, reason=reason, message="because of this")
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    told = answer.json()
    assert (told["code"], told["status"], told["retryable"]) == (reason, status, False)
    assert told["detail"] == "because of this"
    assert (told["run_id"], told["state"]) == (answer.headers["penstock-run-id"], "FAILED")
    polled = await stack.ask("GET", f"/v1/echo/status/{told['ticket']}")
    assert polled.json() | {"request_id": ""} == told | {"request_id": ""}
    # A failed run does not answer the next request: that is a new generation.
    again = await stack.infer(b"bad", **ASYNC)
    assert (again.status, again.headers["penstock-cache"]) == (202, "miss")
    assert again.json()["run_id"] != told["run_id"]


async def test_what_waited_too_long_is_a_504(stack):
    await stack.infer(b"late", Prefer="respond-async", Penstock_Deadline="0.001")
    await asyncio.sleep(0.01)
    await stack.services.broker.returned(await stack.services.ledger.mend(Mend(sweep=Sweep.QUEUE_TTL)))
    answer = await stack.ask("GET", "/v1/echo/status/" + hashlib.sha256(b"late").hexdigest())
    assert (answer.status, answer.json()["code"]) == (504, "QUEUE_EXPIRED")


async def test_cancel_is_at_once_and_repeats_itself(stack):
    ticket = (await stack.infer(b"no", **ASYNC)).json()["ticket"]
    waiting = asyncio.create_task(stack.ask("GET", f"/v1/echo/status/{ticket}", headers={"Prefer": "wait=20"}))
    await asyncio.sleep(0)
    first = await stack.ask("DELETE", f"/v1/echo/status/{ticket}")
    assert (first.status, first.json()["state"], first.json()["reason"]) == (200, "CANCELLED", "BY_USER")
    told = await waiting
    assert (told.status, told.json()["code"], told.json()["state"]) == (410, "BY_USER", "CANCELLED")
    again = await stack.ask("DELETE", f"/v1/echo/status/{ticket}")
    assert (again.status, again.json()) == (200, first.json())


async def test_cancelling_what_is_done_is_a_conflict(stack):
    await served(stack, stack.infer(b"one", Prefer="wait=20"), result=b"1")
    answer = await stack.ask("DELETE", "/v1/echo/status/" + hashlib.sha256(b"one").hexdigest())
    assert (answer.status, answer.json()["code"]) == (409, "CONFLICT")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("ticket", ["never-issued", "x" * 10_000, "%22%00%ff"])
async def test_an_unknown_ticket_is_a_404_not_pending(stack, method, ticket):
    answer = await stack.ask(method, f"/v1/echo/status/{ticket}", headers={"Prefer": "wait=20"})
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in answer.headers


async def test_head_tells_the_state_without_the_body(stack):
    ticket = (await stack.infer(b"one", **ASYNC)).json()["ticket"]
    pending = await stack.ask("HEAD", f"/v1/echo/status/{ticket}")
    assert (pending.status, pending.body, pending.headers["penstock-state"]) == (202, b"", "QUEUED")
    await served(stack, stack.ask("GET", f"/v1/echo/status/{ticket}", headers={"Prefer": "wait=20"}), result=b"12345")
    done = await stack.ask("HEAD", f"/v1/echo/status/{ticket}")
    assert (done.status, done.body, done.headers["penstock-state"]) == (200, b"", "SUCCEEDED")
    assert done.headers["content-length"] == "5"


PLAIN = b"some result " * 1000


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("", False), ("gzip;q=0", False), ("identity", False)],
)
@pytest.mark.parametrize("inline", [True, False])
async def test_a_packed_result_is_passed_on_or_unpacked_as_the_client_likes(tmp_path, accepted, packed, inline):
    async with a_stack(tmp_path, inline_max_bytes=32 * 1024 if inline else 0) as stack:
        asking = stack.infer(b"x", Prefer="wait=20", Accept_Encoding=accepted)
        answer = await served(stack, asking, result=gzip.compress(PLAIN), encoding="gzip", content_type="text/plain")
        assert answer.status == 200
        assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
        assert answer.headers["vary"] == "accept-encoding"
        assert (gzip.decompress(answer.body) if packed else answer.body) == PLAIN


@pytest.mark.parametrize("accepted", ["gzip", ""])
async def test_a_large_result_is_streamed(tmp_path, accepted):
    noise = bytes(range(256)) * 4096  # 1 MiB
    async with a_stack(tmp_path, inline_max_bytes=0) as stack:
        packed = gzip.compress(noise, compresslevel=0)
        asked = exchange("POST", "/v1/echo/infer", b"x", {"Prefer": "wait=20", "Accept-Encoding": accepted})
        answer = await served(stack, stack.finish(asked), result=packed, encoding="gzip")
        assert (gzip.decompress(answer.body) if accepted else answer.body) == noise
        assert len(asked.sent) > 3


async def test_a_small_result_is_kept_and_sent_plain(stack):
    answer = await served(stack, stack.infer(b"x", Prefer="wait=20", Accept_Encoding="gzip"), result=b"tiny")
    assert "content-encoding" not in answer.headers
    assert "vary" not in answer.headers


@pytest.mark.parametrize("kind", ["text/html\r\nset-cookie: a=b", "text/" + "x" * 10_000])
async def test_a_content_type_can_not_break_out_of_its_header(stack, kind):
    asking = stack.infer(b"x", Prefer="wait=20")
    answer = await served(stack, asking, result=b"<script>", content_type=kind)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


async def test_a_client_that_hangs_up_cancels_nothing(stack):
    asked = exchange("POST", "/v1/echo/infer", b"left", {"Prefer": "wait=20"})
    asking = asyncio.create_task(stack.app(asked.scope, asked.receive, asked.send))
    worker = await stack.worker()
    (held,) = (await worker.lease()).attempts
    asked.hung_up.set()
    assert await worker.settle(held, result=b"done") == "ok"
    await asking
    assert asked.sent == []
    assert (await stack.infer(b"left")).body == b"done"


async def test_an_idempotency_key_pins_the_run(stack):
    first = await stack.infer(b"one", Idempotency_Key='"k1"', **ASYNC)
    again = await stack.infer(b"one", Idempotency_Key="k1", **ASYNC)
    assert again.json()["run_id"] == first.json()["run_id"]
    assert again.headers["penstock-cache"] == "joined"
    await stack.ask("DELETE", f"/v1/echo/status/{first.json()['ticket']}")
    cancelled = await stack.infer(b"one", Idempotency_Key="k1")
    assert (cancelled.status, cancelled.json()["run_id"]) == (410, first.json()["run_id"])
    other = await stack.infer(b"two", Idempotency_Key="k1")
    assert (other.status, other.headers["content-type"]) == (422, "application/problem+json")


async def test_the_headers_of_a_submission_reach_the_run(stack):
    parent = "echo/01890a5d-ac96-774b-bcce-b302099a8057"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await stack.infer(
        b"x",
        Penstock_Priority="9",
        Penstock_Tag="nightly",
        Penstock_Parent=parent,
        Penstock_Webhook="https://example.org/hook",
        Penstock_Deadline="60",
        traceparent=trace,
        content_type="text/plain",
        **ASYNC,
    )
    run = await stack.services.runs.get("default", answer.json()["run_id"])
    assert (run.priority, run.tag, run.parent, run.webhook) == (9, "nightly", parent, "https://example.org/hook")
    assert (run.terms.queue_ttl_seconds, run.traceparent, run.body.content_type) == (60.0, trace, "text/plain")


async def test_a_purged_result_is_gone_and_not_unknown(tmp_path):
    async with a_stack(tmp_path) as stack:
        await stack.services.catalog.apply(
            App(name="echo", handler="echo:Echo", results=Results(ttl_hours=0.02 / 3600))
        )
        await served(stack, stack.infer(b"x", Prefer="wait=20"), result=b"1")
        await asyncio.sleep(0.03)
        assert await stack.services.ledger.mend(Mend(sweep=Sweep.RESULTS))
        answer = await stack.ask("GET", "/v1/echo/status/" + hashlib.sha256(b"x").hexdigest())
        assert (answer.status, answer.json()["code"]) == (410, "GONE")
