"""The uniform view of runs: records, pages, retries, explanations, and events to the end."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from gateway_stack import PUBLIC, exchange

from penstock.model.app import App
from penstock.model.documents import ExplanationDocument, RunDocument, RunPage
from penstock.model.run import Outcome, Reason, State

ASYNC = {"Prefer": "respond-async"}


async def accepted(stack, body=b"x", **headers):
    answer = await stack.infer(body, Prefer="respond-async", **headers)
    return answer.json()["run_id"]


async def fetched(stack, path, kind):
    answer = await stack.ask("GET", path)
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=kind)


async def test_the_record_tells_all_in_whatever_state(stack):
    run_id = await accepted(stack, b"12345", Penstock_Tag="t1", content_type="text/plain")
    queued = await fetched(stack, f"/v1/runs/{run_id}", RunDocument)
    assert (queued.state, queued.app, queued.tag, queued.tenant) == (State.QUEUED, "echo", "t1", "default")
    assert (queued.size, queued.content_type, queued.result, queued.attempts) == (5, "text/plain", None, ())
    assert queued.expires_at > queued.created_at
    worker = await stack.worker()
    await worker.serve(result=b"123", content_type="text/html")
    done = await fetched(stack, f"/v1/runs/{run_id}", RunDocument)
    assert (done.state, done.result.size, done.result.content_type) == (State.SUCCEEDED, 3, "text/html")
    assert [attempt.worker_uid for attempt in done.attempts] == ["w-echo-aaaaaaaaaa"]
    assert done.timings.waited >= 0
    assert done.timings.ran >= 0
    for link in (done.links.result, done.links.explain, done.links.status):
        assert link.startswith(PUBLIC)
        assert (await stack.ask("GET", link)).status == 200


async def test_a_failed_run_is_shown_with_200(stack):
    run_id = await accepted(stack)
    worker = await stack.worker()
    await worker.serve(Outcome.FAILED, reason=Reason.INVALID_INPUT, message="not an image")
    run = await fetched(stack, f"/v1/runs/{run_id}", RunDocument)
    assert (run.state, run.reason, run.message) == (State.FAILED, Reason.INVALID_INPUT, "not an image")
    assert (await stack.ask("GET", f"/v1/runs/{run_id}/result")).status == 422


async def test_pages_are_newest_first_and_end(stack):
    ids = [await accepted(stack, b"%d" % number) for number in range(5)]
    first = await fetched(stack, "/v1/runs?limit=3", RunPage)
    second = await fetched(stack, f"/v1/runs?limit=3&after={first.next}", RunPage)
    assert [run.id for run in (*first.items, *second.items)] == ids[::-1]
    assert second.next is None


async def test_lists_are_filtered(stack):
    await stack.services.catalog.apply(App(name="other", handler="o:O"))
    mine = await accepted(stack, b"1", Penstock_Tag="a b&c")
    await stack.infer(b"2", app="other", **ASYNC)
    assert [run.id for run in (await fetched(stack, "/v1/runs?app=echo", RunPage)).items] == [mine]
    assert [run.id for run in (await fetched(stack, "/v1/runs?tag=a%20b%26c", RunPage)).items] == [mine]
    assert (await fetched(stack, "/v1/runs?state=RUNNING", RunPage)).items == ()
    assert len((await fetched(stack, "/v1/runs?lane=infer&since=2001-01-01", RunPage)).items) == 2
    assert (await fetched(stack, "/v1/runs?since=2999-01-01T00:00:00Z", RunPage)).items == ()


async def test_cancel_takes_a_message_and_refuses_what_is_done(stack):
    run_id = await accepted(stack)
    answer = await stack.ask("POST", f"/v1/runs/{run_id}/cancel", b'{"message": "not needed"}')
    assert (answer.status, answer.json()["message"]) == (200, "not needed")
    assert (await stack.ask("POST", f"/v1/runs/{run_id}/cancel")).status == 200
    other = await accepted(stack, b"y")
    worker = await stack.worker()
    await worker.serve(result=b"")
    assert (await stack.ask("POST", f"/v1/runs/{other}/cancel")).status == 409


async def failed(stack, body=b"x"):
    run_id = await accepted(stack, body)
    worker = await stack.worker()
    await worker.serve(Outcome.FAILED, reason=Reason.HANDLER_ERROR)
    return run_id


async def test_a_retry_is_a_new_generation_with_the_same_body(stack):
    run_id = await failed(stack, b"again")
    answer = await stack.ask("POST", f"/v1/runs/{run_id}/retry")
    assert (answer.status, answer.json()["generation"], answer.json()["state"]) == (202, 2, "QUEUED")
    (held,) = (await (await stack.worker()).lease()).attempts
    assert (held.run_id, held.body) == (answer.json()["id"], b"again")
    assert (await stack.ask("POST", f"/v1/runs/{held.run_id}/retry")).status == 409


async def test_an_idempotency_key_retries_once(stack):
    run_id, other = await failed(stack, b"1"), await failed(stack, b"2")
    keyed = {"Idempotency-Key": "once"}
    first = await stack.ask("POST", f"/v1/runs/{run_id}/retry", headers=keyed)
    (await (await stack.worker()).serve(Outcome.FAILED))
    again = await stack.ask("POST", f"/v1/runs/{run_id}/retry", headers=keyed)
    assert (again.status, again.body, again.headers["content-type"]) == (202, first.body, "application/json")
    mixed = await stack.ask("POST", f"/v1/runs/{other}/retry", headers=keyed)
    assert mixed.status == 422
    unkeyed = await stack.ask("POST", f"/v1/runs/{first.json()['id']}/retry")
    assert unkeyed.json()["generation"] == 3


async def test_a_key_whose_request_is_still_at_work_is_a_conflict(stack, monkeypatch):
    run_id = await failed(stack)
    started, go = asyncio.Event(), asyncio.Event()
    retry = stack.services.runs.retry

    async def slowly(*given):
        started.set()
        await go.wait()
        return await retry(*given)

    monkeypatch.setattr(stack.services.runs, "retry", slowly)
    keyed = {"Idempotency-Key": "slow"}
    first = asyncio.create_task(stack.ask("POST", f"/v1/runs/{run_id}/retry", headers=keyed))
    await started.wait()
    assert (await stack.ask("POST", f"/v1/runs/{run_id}/retry", headers=keyed)).status == 409
    go.set()
    assert (await first).status == 202


async def test_a_key_whose_request_failed_may_be_tried_again(stack):
    run_id = await accepted(stack)
    keyed = {"Idempotency-Key": "k"}
    assert (await stack.ask("POST", f"/v1/runs/{run_id}/retry", headers=keyed)).status == 409
    await (await stack.worker()).serve(Outcome.FAILED)
    assert (await stack.ask("POST", f"/v1/runs/{run_id}/retry", headers=keyed)).status == 202


async def test_redrive_retries_what_matches(stack):
    await failed(stack, b"1")
    await failed(stack, b"2")
    answer = await stack.ask("POST", "/v1/runs/redrive", b'{"app": "echo", "reason": "HANDLER_ERROR"}')
    assert (answer.status, answer.json()) == (202, {"count": 2})
    assert (await stack.ask("POST", "/v1/runs/redrive", b'{"app": "echo"}')).json() == {"count": 0}


async def test_explain_goes_gate_by_gate(stack):
    run_id = await accepted(stack)
    found = await fetched(stack, f"/v1/runs/{run_id}/explain", ExplanationDocument)
    assert found.state is State.QUEUED
    assert found.summary
    assert [step.kind for step in found.steps][:2] == ["accepted", "app"]


def frames(data):
    """Give the (id, event, data) of each event, and the comments between them."""
    events, comments = [], []
    for block in data.decode().split("\n\n")[:-1]:
        if block.startswith(":"):
            comments.append(block)
            continue
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append((fields["id"], fields["event"], msgspec.json.decode(fields["data"])))
    return events, comments


async def test_events_come_to_the_end_and_go_on_where_one_left(stack):
    run_id = await accepted(stack)
    following = asyncio.create_task(stack.ask("GET", f"/v1/runs/{run_id}/events"))
    worker = await stack.worker()
    await worker.serve(result=b"1")
    answer = await following
    assert answer.headers["content-type"] == "text/event-stream"
    events, _ = frames(answer.body)
    kinds = [kind for _, kind, _ in events]
    assert (kinds[0], kinds[-1]) == ("queued", "succeeded")
    assert events[0][2]["at"].endswith("Z")
    resumed = await stack.ask("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": events[0][0]})
    assert frames(resumed.body)[0] == events[1:]
    at_end = await stack.ask("GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": events[-1][0]})
    assert at_end.body == b""


async def test_a_stream_ends_whole_when_the_gateway_closes(stack):
    run_id = await accepted(stack)
    asked = exchange("GET", f"/v1/runs/{run_id}/events")
    following = asyncio.create_task(stack.app(asked.scope, asked.receive, asked.send))
    await asked.until(lambda part: b"event: queued" in part)
    stack.services.closing.set()
    await following
    assert frames(asked.answer().body)[0][0][1] == "queued"


async def test_silence_is_filled_with_comments(stack, monkeypatch):
    monkeypatch.setattr("penstock.serving.runs._QUIET_S", 0.01)
    run_id = await accepted(stack)
    asked = exchange("GET", f"/v1/runs/{run_id}/events")
    following = asyncio.create_task(stack.app(asked.scope, asked.receive, asked.send))
    await asked.until(lambda part: part.startswith(b":"))
    asked.hung_up.set()
    await following


@pytest.mark.parametrize("path", ["/v1/apps/echo/logs?follow=true", "/v1/runs/{}/events"])
async def test_a_reader_that_goes_leaves_nobody_listening(stack, path):
    run_id = await accepted(stack)
    asked = exchange("GET", path.format(run_id))
    following = asyncio.create_task(stack.app(asked.scope, asked.receive, asked.send))
    await asyncio.sleep(0.05)
    asked.hung_up.set()
    await following
    assert not stack.services.intake._notices._watching
