"""The client and the gateway understand each other, over a real connection."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest
from http_server import listening

from penstock import errors
from penstock.client import AsyncClient, Client, RunCancelled, RunFailed, Unfinished, Unreachable
from penstock.model.run import Lane, Outcome, Reason, State

SPEC = 'name: vision\nhandler: "vision:Vision"\nscaling: { maxInstances: 2 }\n'


async def test_run_gives_the_result(stack, client):
    worker = await stack.worker()
    asking = client.run("echo", {"x": 1})
    answer, held = await asyncio.gather(asking, worker.serve(result=b'{"y": 2}', content_type="application/json"))
    assert (held.body, held.content_type) == (b'{"x":1}', "application/json")
    assert (answer.json(), answer.text, answer.content_type) == ({"y": 2}, '{"y": 2}', "application/json")
    assert (answer.run_id, answer.cache) == (held.run_id, "miss")
    again = await client.submit("echo", {"x": 1})
    assert (again.answer.data, again.answer.cache, again.state) == (b'{"y": 2}', "hit", State.SUCCEEDED)
    assert again.ticket == held.key


async def test_a_packed_result_arrives_unpacked(stack, client):
    worker = await stack.worker()
    data = b"some text " * 1000
    packed = gzip.compress(data)
    answer, _ = await asyncio.gather(client.run("echo", b"x"), worker.serve(result=packed, encoding="gzip"))
    assert answer.data == data


async def test_a_ticket_is_told_of_and_redeemed_later(stack, client):
    ticket = await client.submit("echo", "héllo", wait=0, tag="t", priority=9, deadline=60)
    assert (ticket.state, ticket.answer, ticket.position) == (State.QUEUED, None, 0)
    assert ticket.eta.p90 >= ticket.eta.p50
    with pytest.raises(Unfinished, match="is QUEUED") as late:
        await client.result(ticket, wait=0.01)
    assert late.value.pending.run_id == ticket.run_id
    worker = await stack.worker()
    answer, held = await asyncio.gather(client.result(ticket, wait=20), worker.serve(result=b"r"))
    assert (answer.data, held.body, held.content_type) == (b"r", "héllo".encode(), "text/plain; charset=utf-8")
    assert (await client.status("echo", ticket.ticket)).answer.data == b"r"
    run = await client.get(ticket.run_id)
    assert (run.tag, run.priority, run.lane) == ("t", 9, Lane.INFER)


async def test_a_rid_names_the_run(client):
    first = await client.submit("echo", {"x": 1}, rid="mine", wait=0)
    other = await client.submit("echo", {"x": 2}, rid="mine", wait=0)
    assert (first.ticket, first.rid_reused) == ("mine", False)
    assert (other.run_id, other.rid_reused) == (first.run_id, True)
    with pytest.raises(TypeError):
        await client.submit("echo", b"x", rid="mine")


async def test_a_file_is_sent_as_it_is(client, stack, tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG")
    await client.submit("echo", image, wait=0)
    with image.open("rb") as opened:
        assert (await client.submit("echo", opened, wait=0)).answer is None
    (held,) = (await (await stack.worker()).lease()).attempts
    assert (held.body, held.content_type) == (b"\x89PNG", "image/png")


async def test_a_failed_run_raises_its_reason(stack, client):
    worker = await stack.worker()

    async def failing():
        with pytest.raises(RunFailed, match="not an image") as failed:
            await client.run("echo", b"x")
        return failed.value

    failure, held = await asyncio.gather(
        failing(), worker.serve(Outcome.FAILED, reason=Reason.INVALID_INPUT, message="not an image")
    )
    assert (failure.code, failure.status, failure.run_id) == ("INVALID_INPUT", 422, held.run_id)
    assert (failure.state, failure.retryable, failure.ticket) == (State.FAILED, False, held.key)
    run = await client.retry(held.run_id)
    assert (run.generation, run.state) == (2, State.QUEUED)


async def test_a_cancelled_run_raises_for_those_who_wait(client):
    ticket = await client.submit("echo", b"x", wait=0)
    assert (await client.cancel("echo", ticket.ticket)).state is State.CANCELLED
    with pytest.raises(RunCancelled) as cancelled:
        await client.result(ticket)
    assert (cancelled.value.code, cancelled.value.state) == ("BY_USER", State.CANCELLED)
    other = await client.submit("echo", b"y", wait=0)
    assert (await client.cancel_run(other.run_id, "why")).message == "why"


async def test_refusals_are_the_errors_that_the_server_raised(client):
    with pytest.raises(errors.NotFound, match="no app named 'nobody'"):
        await client.submit("nobody", b"x")
    with pytest.raises(errors.NotFound, match="never issued") as unknown:
        await client.status("echo", "unknown")
    assert unknown.value.__notes__[0].startswith("request id: ")
    with pytest.raises(errors.Invalid, match="Penstock-Priority"):
        await client.submit("echo", b"x", priority=77)
    with pytest.raises(errors.TooLarge, match="10485760 bytes"):
        await client.submit("echo", b"x" * (10 * 1024 * 1024 + 1))
    with pytest.raises(errors.InvalidSpec) as wrong:
        await client.apps.apply(SPEC.replace("maxInstances", "maxInstance"))
    assert "did you mean" in str(wrong.value)


async def test_runs_are_given_page_by_page(client):
    for number in range(5):
        await client.submit("echo", b"%d" % number, wait=0, tag="even" if number % 2 == 0 else "odd")
    assert len([run async for run in client.runs()]) == 5
    assert len([run async for run in client.runs(most=2)]) == 2
    assert [run.size async for run in client.runs(tag="even", state=State.QUEUED)] == [1, 1, 1]


async def test_events_end_with_the_run(stack, client):
    ticket = await client.submit("echo", b"x", wait=0)
    worker = await stack.worker()

    async def follow():
        return [event async for event in client.events(ticket.run_id)]

    events, _ = await asyncio.gather(follow(), worker.serve(result=b"r"))
    assert [event.type for event in events] == ["queued", "leased", "succeeded"]
    assert events[0].at <= events[-1].at
    assert [event.id async for event in client.events(ticket.run_id, after=events[0].id)] == [
        event.id for event in events[1:]
    ]
    with pytest.raises(errors.NotFound):
        await anext(client.events("no-such-run"))


async def test_the_story_of_a_run_is_explained(client):
    ticket = await client.submit("echo", b"x", wait=0)
    found = await client.explain(ticket.run_id)
    assert (found.run_id, found.state) == (ticket.run_id, State.QUEUED)


async def test_apps_are_applied_looked_at_and_deleted(client, tmp_path):
    tried = await client.apps.apply(SPEC, dry_run=True)
    assert (tried.created, tried.dry_run) == (True, True)
    applied = await client.apps.apply(SPEC)
    assert (applied.created, applied.generation) == (True, 1)
    changed = await client.apps.apply(SPEC.replace("2", "3"), if_match=applied.etag)
    assert [change.after for change in changed.changes] == [3]
    with pytest.raises(errors.Conflict):
        await client.apps.apply(SPEC, if_match=applied.etag)
    assert [app.name async for app in client.apps.list()] == ["echo", "vision"]
    assert (await client.apps.pause("vision")).desired_state == "Paused"
    assert (await client.apps.drain("vision")).desired_state == "Draining"
    assert (await client.apps.resume("vision")).desired_state == "Ready"
    file = tmp_path / "vision.yaml"
    file.write_text(await client.apps.spec("vision"))
    assert (await client.apps.apply(file)).changes == ()
    assert await client.apps.events("vision") == ()
    assert await client.apps.decisions("vision") == ()
    await client.apps.delete("vision")
    with pytest.raises(errors.NotFound):
        await client.apps.get("vision")


async def test_an_app_with_live_runs_is_deleted_by_force(client):
    await client.submit("echo", b"x", wait=0)
    with pytest.raises(errors.Conflict, match="live run"):
        await client.apps.delete("echo")
    await client.apps.delete("echo", force=True)


async def test_failed_runs_are_redriven(stack, client):
    worker = await stack.worker()
    await client.submit("echo", b"x", wait=0)
    await worker.serve(Outcome.FAILED)
    assert await client.redrive(app="echo", idempotency_key="k") == 1
    assert await client.redrive(app="echo", idempotency_key="k") == 1  # the same answer, nothing done
    assert [run.generation async for run in client.runs()] == [2, 1]


async def test_about_the_server(stack, client):
    await stack.worker()
    assert (await client.whoami()).tenant == "default"
    assert [worker.app for worker in await client.workers(app="echo")] == ["echo"]
    assert await client.version()
    assert (await client.schema())["title"]


async def test_nobody_at_the_address_is_said_with_what_to_do(stack):
    async with listening(stack.app) as url:
        pass  # it was there, and is no more
    async with AsyncClient(url, sleep=no_time) as client:
        with pytest.raises(Unreachable, match="penstock up"):
            await client.whoami()


async def no_time(_seconds):
    """Wait no time."""


def test_an_address_that_is_none_is_refused_at_once():
    with pytest.raises(errors.Invalid, match="http://"):
        AsyncClient("localhost:8080")


async def test_the_blocking_client_does_the_same(stack):
    worker = await stack.worker()
    seen: dict[str, object] = {}

    def work(url):
        with Client(url) as client:
            seen["answer"] = client.run("echo", b"x", wait=20).data
            seen["hit"] = client.submit("echo", b"x").answer.cache
            ticket = client.submit("echo", b"y", wait=0)
            with pytest.raises(Unfinished):
                client.result(ticket, wait=0.01)
            seen["states"] = [run.state for run in client.runs()]
            seen["first"] = next(client.runs()).id == ticket.run_id
            client.cancel("echo", ticket.ticket)
            seen["events"] = [event.type for event in client.events(ticket.run_id)]
            seen["apps"] = [app.name for app in client.apps.list()]
            seen["who"] = client.whoami().sub
            with pytest.raises(errors.NotFound):
                client.apps.get("nobody")
            client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.whoami()

    async with listening(stack.app) as url:
        await asyncio.gather(asyncio.to_thread(work, url), worker.serve(result=b"r"))
    assert seen == {
        "answer": b"r",
        "hit": "hit",
        "states": [State.QUEUED, State.SUCCEEDED],
        "first": True,
        "events": ["queued", "cancelled"],
        "apps": ["echo"],
        "who": "anonymous",
    }
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-client"]
