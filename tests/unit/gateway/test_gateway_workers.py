"""The worker face: leases that wait, reports item by item, and workers that vanish while they wait."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
import pytest
from gateway_stack import PretendWorker, exchange

from penstock.errors import Unavailable
from penstock.model import wire
from penstock.model.run import Outcome, State

ASYNC = {"Prefer": "respond-async"}


@pytest.mark.parametrize("packed", [True, False])
async def test_a_worker_speaks_json_or_messagepack(stack, packed):
    await stack.infer(b"\x00\xff", **ASYNC)
    worker = await stack.worker()
    worker.packed = packed
    (held,) = (await worker.lease()).attempts
    assert (held.body, held.epoch, held.key) == (b"\x00\xff", 1, hashlib.sha256(b"\x00\xff").hexdigest())
    assert await worker.settle(held, result=b"\xff") == "ok"
    assert (await stack.infer(b"\x00\xff")).body == b"\xff"


async def test_the_answer_is_in_the_form_that_is_accepted(stack):
    await stack.infer(b"x", **ASYNC)
    worker = await stack.worker()
    body = msgspec.msgpack.encode(wire.LeaseRequest(max=1))
    answer = await stack.ask("POST", "/internal/v1/lease", body, worker.headers | {"accept": "application/json"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["attempts"][0]["body"] == "eA=="


async def test_a_lease_waits_for_work_and_wakes_with_it(stack):
    worker = await stack.worker()
    waiting = asyncio.create_task(worker.lease(wait_s=20))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await stack.infer(b"x", **ASYNC)
    assert len((await waiting).attempts) == 1


async def test_a_settle_brings_the_next_work(stack):
    worker = await stack.worker()
    for body in (b"1", b"2"):
        await stack.infer(body, **ASYNC)
    (first,) = (await worker.lease()).attempts
    item = wire.SettleItem(run_id=first.run_id, epoch=1, token=first.token, outcome=Outcome.SUCCEEDED, result=b"r")
    ask = wire.SettleRequest(done=(item,), want=wire.Want(max=1, wait_s=5))
    reply = worker.decode(await worker.call("settle", ask), wire.SettleReply)
    assert [status.code for status in reply.done] == ["ok"]
    assert [held.body for held in reply.attempts] == [b"2"]


async def test_a_worker_that_vanished_while_it_waited_gets_nothing(stack):
    worker = await stack.worker()
    body = worker.encode(wire.LeaseRequest(max=1, wait_s=30))
    asked = exchange("POST", "/internal/v1/lease", body, worker.headers)
    waiting = asyncio.create_task(stack.app(asked.scope, asked.receive, asked.send))
    await asyncio.sleep(0.01)
    asked.hung_up.set()
    await waiting
    answer = await stack.infer(b"x", **ASYNC)
    assert answer.json()["state"] == "QUEUED"
    assert await stack.services.queue.depth("echo-infer") == 1


async def test_what_was_leased_for_a_worker_that_just_vanished_goes_back(stack, monkeypatch):
    worker = await stack.worker()
    body = worker.encode(wire.LeaseRequest(max=1, wait_s=30))
    asked = exchange("POST", "/internal/v1/lease", body, worker.headers)
    broker = stack.services.broker
    lease = broker.lease

    async def lease_and_lose(*given):
        reply = await lease(*given)
        asked.hung_up.set()  # the connection breaks while the broker holds the answer in its hand
        for _ in range(3):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                continue
        return reply

    monkeypatch.setattr(broker, "lease", lease_and_lose)
    run_id = (await stack.infer(b"x", **ASYNC)).json()["run_id"]
    await stack.app(asked.scope, asked.receive, asked.send)
    run = await stack.services.ledger.run(run_id)
    assert (run.state, run.failures, run.head) == (State.QUEUED, 0, True)


@pytest.mark.parametrize("came", ["before", "after"])
async def test_nothing_stays_leased_beside_reports_that_can_not_be_taken(stack, monkeypatch, came):
    """The worker hears of the failure alone, so it would hold a run that it does not know of."""
    worker = await stack.worker()
    await stack.infer(b"1", **ASYNC)
    (first,) = (await worker.lease()).attempts
    ledger, breaks = stack.services.ledger, asyncio.Event()
    settle = ledger.settle

    async def away(command):
        if command.run_id != first.run_id:
            return await settle(command)
        await breaks.wait()
        raise Unavailable("the disk is full")

    monkeypatch.setattr(ledger, "settle", away)
    item = wire.SettleItem(run_id=first.run_id, epoch=1, token=first.token, outcome=Outcome.SUCCEEDED, result=b"r")
    ask = wire.SettleRequest(done=(item,), want=wire.Want(max=1, wait_s=5))
    asked = asyncio.create_task(worker.call("settle", ask))
    await asyncio.sleep(0.01)
    if came == "after":
        breaks.set()
        await asked
    second = await stack.infer(b"2", **ASYNC)
    breaks.set()
    assert (await asked).status == 503
    await asyncio.sleep(0.05)
    run = await ledger.run(second.json()["run_id"])
    assert (run.state, run.failures) == (State.QUEUED, 0)


async def test_a_stale_report_changes_nothing(stack):
    await stack.infer(b"x", **ASYNC)
    worker = await stack.worker()
    (held,) = (await worker.lease()).attempts
    forged = msgspec.structs.replace(held, epoch=2)
    assert await worker.settle(forged, result=b"mine") == "stale"
    assert await worker.settle(held, Outcome.RELEASED) == "ok"
    (again,) = (await worker.lease()).attempts
    assert again.epoch == 2
    assert await worker.settle(held, result=b"late") == "already"
    assert await worker.settle(again, result=b"right") == "ok"
    assert await worker.settle(again, result=b"right") == "already"
    assert (await stack.infer(b"x")).body == b"right"


async def test_a_heartbeat_tells_what_was_cancelled(stack):
    ticket = (await stack.infer(b"x", **ASYNC)).json()["ticket"]
    worker = await stack.worker()
    (held,) = (await worker.lease()).attempts
    item = wire.ExtendItem(run_id=held.run_id, epoch=held.epoch, token=held.token, progress=0.5)
    reply = worker.decode(await worker.call("extend", wire.ExtendRequest(attempts=(item,))), wire.ExtendReply)
    assert (reply.lost, reply.cancelled, reply.exit) == ((), (), False)
    assert stack.services.keyring.verify_worker(reply.token).app == "echo"
    await stack.ask("DELETE", f"/v1/echo/status/{ticket}")
    reply = worker.decode(await worker.call("extend", wire.ExtendRequest(attempts=(item,))), wire.ExtendReply)
    assert reply.cancelled == (held.run_id,)
    assert await worker.settle(held, result=b"late") == "cancelled"


async def test_checkpoints_urls_exit_and_dead_replicas(stack):
    await stack.infer(b"x", **ASYNC)
    worker = await stack.worker()
    (held,) = (await worker.lease()).attempts
    mine = {"run_id": held.run_id, "epoch": held.epoch, "token": held.token}
    saved = await worker.call("checkpoint", wire.CheckpointRequest(**mine, data=b"half way"))
    assert worker.decode(saved, wire.CheckpointReply).code == "ok"
    urls = worker.decode(await worker.call("urls", wire.UrlsRequest(**mine, result_bytes=3)), wire.UrlsReply)
    assert (await stack.ask("PUT", urls.result_url, b"abc")).status == 201
    leaving = worker.decode(await worker.call("exit", wire.ExitRequest()), wire.ExitReply)
    assert leaving.granted is False
    died = await worker.call("replica-died", wire.ReplicaDied(replica=0, exit_code=-9))
    assert died.status == 204
    (again,) = (await worker.lease()).attempts
    assert (again.epoch, again.checkpoint, again.alone) == (2, b"half way", True)


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
@pytest.mark.parametrize("verb", ["lease", "settle", "extend", "checkpoint", "urls", "exit", "replica-died"])
async def test_without_a_workers_token_nobody_passes(stack, verb, token):
    answer = await PretendWorker(stack, token).call(verb, wire.ExitRequest())
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", b"\x91" * 100_000])
async def test_a_message_that_can_not_be_read_is_refused(stack, body):
    worker = await stack.worker()
    answer = await stack.ask("POST", "/internal/v1/lease", body, worker.headers)
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
