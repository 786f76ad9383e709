"""Bugs that systems of this kind are known for, each by its name, shown not to be here.

What concerns batches, webhooks' deliveries, several candidates, quotas and provisioning tools is tested where those are.
"""

from __future__ import annotations

import asyncio

import pytest
from walking import ECHO, GATED, Walk, pretend, until

from penstock.model.run import Lane, Outcome
from penstock.queue import queue_name
from penstock.serving import Submission


async def test_lost_between_pop_and_claim(walk: Walk) -> None:
    """A process takes a message from the queue and is killed before it claims the run."""
    await walk.app()
    await walk.wish("echo", "pause")
    ticket = await walk.submit("echo", {"n": 1})
    taken = await walk.platform.queue.receive(queue_name("echo", Lane.INFER), 10, 1.0)
    assert taken
    await walk.platform.queue.ack(taken)
    await walk.wish("echo", "resume")
    assert (await walk.poll("echo", ticket.ticket)).status == 200


async def test_dedupe_marker_swallows_a_reused_id(walk: Walk) -> None:
    await walk.app(source="def predict(self, batch): note('ran'); return batch", results="{ ttlHours: 0.0001 }")
    first = await walk.infer("echo", {"_rid": "order-7"})

    async def purged() -> bool:
        await walk.platform.controller.maintain()
        return (await walk.record(first.run_id)).get("purged_at") is not None

    await until(purged)
    assert (await walk.infer("echo", {"_rid": "order-7"})).status == 200
    await walk.wish("echo", "pause")
    await walk.submit("echo", {"_rid": "order-8"})
    await walk.cancel("echo", "order-8")
    await walk.wish("echo", "resume")
    assert (await walk.infer("echo", {"_rid": "order-8"})).status == 200
    assert walk.journal == ["ran"] * 3


async def test_pending_workers_not_counted_so_bought_twice(walk: Walk) -> None:
    source = """
    def load(self):
        note("starting")
        hold("go")

    def predict(self, batch):
        return batch
    """
    await walk.app(source=source, scaling="{ maxInstances: 5, messagesPerInstance: 10, scaleUpCooldownSeconds: 0 }")
    tickets = [await walk.submit("echo", {"n": n}) for n in range(5)]
    await walk.noted("starting")
    for _ in range(10):
        await walk.platform.controller.tick()
    assert [worker.state for worker in await walk.workers()] == ["STARTING"]
    walk.open("go")
    assert [(await walk.poll("echo", one.ticket)).status for one in tickets] == [200] * 5
    assert len(await walk.workers(live=False)) == 1


async def test_submit_does_not_wake_zero(walk: Walk) -> None:
    await walk.app()
    assert await walk.workers(live=False) == []
    await walk.submit("echo", {"n": 1})

    async def started() -> bool:
        return bool(await walk.workers())

    await until(started, within_s=5)


async def test_exit_racing_a_new_message(walk: Walk) -> None:
    await walk.app(worker="{ idleExitSeconds: 0.1 }", scaling="{ maxInstances: 1, scaleUpCooldownSeconds: 0 }")
    for n in range(12):
        answer = await walk.infer("echo", {"n": n})
        assert answer.status == 200, answer.body
        (worker, *_) = await walk.workers(live=False)
        if n % 2:  # come just when the worker is about to leave, or has just been let go

            async def leaves(uid: str = worker.uid) -> bool:
                row = await walk.platform.ledger.worker(uid)
                return row is None or row.state not in ("IDLE", "BUSY")

            await until(leaves)


@pytest.mark.parametrize("lease_s", [0.4, 1.0])
async def test_a_task_longer_than_its_lease_runs_twice(walk: Walk, lease_s: float) -> None:
    """And with it: a heartbeat longer than the lease."""
    await walk.app(source=GATED, deadlines=f"{{ leaseSeconds: {lease_s} }}")
    ticket = await walk.submit("echo", {"n": 1})
    await walk.noted("began 1")
    (attempt,) = await walk.platform.ledger.attempts(ticket.run_id)

    async def overdue() -> bool:
        return await walk.platform.ledger.now() > attempt.lease_until + 2 * lease_s

    await until(overdue)
    walk.open("go")
    assert (await walk.poll("echo", ticket.ticket)).status == 200
    assert walk.journal == ["began 1"]
    assert len(await walk.platform.ledger.attempts(ticket.run_id)) == 1


async def test_late_progress_reopens_a_finished_run(walk: Walk) -> None:
    await walk.app()
    worker = await pretend(walk, "w-echo-one")
    ticket = await walk.submit("echo", {"n": 1})
    (held,) = await worker.lease()
    assert await worker.settle(held) == "ok"
    claim = {name: held[name] for name in ("run_id", "epoch", "token")}
    reply = (await worker.call("extend", {"attempts": [{**claim, "progress": 0.3}]})).json()
    assert reply["lost"] == [ticket.run_id]
    record = await walk.record(ticket.run_id)
    assert (record["state"], record.get("progress")) == ("SUCCEEDED", None)
    (row,) = await walk.platform.ledger.attempts(ticket.run_id)
    assert row.state == "SUCCEEDED"


async def test_a_dead_webhook_receiver_blocks_anything(walk: Walk) -> None:
    await walk.app()
    answers = [await walk.infer("echo", {"n": n}, penstock_webhook="http://127.0.0.1:9/dead") for n in range(3)]
    assert [answer.status for answer in answers] == [200] * 3


async def test_redrive_loses_settings(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if not is_open("mended"):
            raise InvalidInput("not yet")
        return [Response(batch[0], "text/x-echo")]
    """
    await walk.app(source=source)
    headers = {"penstock_tag": "night", "penstock_priority": "9", "penstock_webhook": "http://127.0.0.1:9/hook"}
    failed = await walk.infer("echo", b"raw", content_type="text/x-odd", penstock_deadline="77", **headers)
    walk.open("mended")
    assert (await walk.ask("POST", "/v1/runs/redrive", {})).json() == {"count": 1}
    done = await walk.poll("echo", failed.ticket)
    assert done.body == b"raw"
    before, after = await walk.run(failed.run_id), await walk.run(done.run_id)
    for name in ("tag", "priority", "webhook", "parent", "body", "sha256", "key", "lane", "tenant"):
        assert getattr(after, name) == getattr(before, name), name


async def test_cancel_hangs_on_a_lock(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note("began")
        hold("never")
        return batch
    """
    await walk.app(source=source, deadlines="{ leaseSeconds: 0.5 }")
    ticket = await walk.submit("echo", {"n": 1})
    await walk.noted("began")
    async with asyncio.timeout(2):
        assert (await walk.cancel("echo", ticket.ticket)).status == 200
        (await walk.poll("echo", ticket.ticket)).problem(410, "BY_USER")
    await walk.app(source=ECHO)
    assert (await walk.infer("echo", {"n": 2})).status == 200  # the one that hangs is replaced


async def test_an_unknown_id_looks_pending(walk: Walk) -> None:
    await walk.app()
    async with asyncio.timeout(2):  # nor is it waited for
        (await walk.poll("echo", "no-such-ticket", wait=60)).problem(404, "NOT_FOUND")


async def test_a_crash_loop_is_shown_as_capacity(walk: Walk) -> None:
    await walk.app(source="def load(self): os._exit(9)")
    await walk.submit("echo", {"n": 1})

    async def held() -> dict[str, object] | None:
        app = (await walk.ask("GET", "/v1/apps/echo")).json()
        return app if app["phase"] == "Held" else None

    app = await until(held)
    assert app["reason"] != "CAPACITY"
    assert "before their first lease" in str(app["message"])
    started = len(await walk.workers(live=False))
    for _ in range(5):
        await walk.platform.controller.tick()
    assert len(await walk.workers(live=False)) == started  # and it is not tried for ever


async def test_one_bad_item_fails_a_micro_batch(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note(f"called with {len(batch)}")
        return [{"half": 1 / item["n"]} for item in batch]
    """
    await walk.app(source=source, worker="{ batchSize: 16 }", retry="{ maxAttempts: 1 }")
    await walk.wish("echo", "pause")
    tickets = [await walk.submit("echo", {"n": n}) for n in range(16)]
    await walk.wish("echo", "resume")
    answers = [await walk.poll("echo", one.ticket) for one in tickets]
    assert [answer.status for answer in answers] == [500, *[200] * 15]
    assert "called with 16" in walk.journal
    assert len(walk.journal) <= 1 + 2 * 4  # 2 log2(16) calls more


async def test_a_rich_tenant_starves_a_poor_one(walk: Walk) -> None:
    await walk.app(source="def predict(self, batch): note(current_run().tenant); return batch")
    await walk.wish("echo", "pause")
    for n in range(30):
        await walk.platform.intake.accept(Submission(tenant="rich", app="echo", body=b"%d" % n, priority=9))
    for n in range(3):
        await walk.platform.intake.accept(Submission(tenant="poor", app="echo", body=b"%d" % n, priority=0))
    await walk.wish("echo", "resume")
    await until(lambda: len(walk.journal) == 33)
    assert [n for n, tenant in enumerate(walk.journal) if tenant == "poor"][-1] < 12, walk.journal


async def test_a_ttl_deletes_a_live_run(walk: Walk) -> None:
    await walk.app(source=GATED, results="{ ttlHours: 0.00001 }")
    running = await walk.submit("echo", {"n": 1})
    await walk.noted("began 1")
    waiting = await walk.submit("echo", {"n": 2})
    for _ in range(5):
        await walk.platform.controller.maintain()
    states = [(await walk.record(one.run_id))["state"] for one in (running, waiting)]
    assert states == ["RUNNING", "QUEUED"]
    walk.open("go")
    done = await walk.poll("echo", running.ticket)
    assert done.status in (200, 410)
    assert (await walk.record(running.run_id))["state"] == "SUCCEEDED"


async def test_nack_does_nothing(walk: Walk) -> None:
    """What a worker gives back is at once there for the next, and charged to nobody."""
    await walk.app(deadlines="{ leaseSeconds: 60 }")
    first, second = await pretend(walk, "w-echo-one"), await pretend(walk, "w-echo-two")
    ticket = await walk.submit("echo", {"n": 1})
    (held,) = await first.lease()
    waiting = asyncio.create_task(second.lease())
    assert await first.settle(held, outcome=Outcome.RELEASED) == "ok"
    async with asyncio.timeout(2):
        (again,) = await waiting
    assert (again["run_id"], again["epoch"], again["attempts_left"]) == (ticket.run_id, 2, 3)


async def test_a_rolling_deploy_is_counted_as_a_failed_attempt(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note(f"began {current_run().epoch}")
        while not (current_run().stopping or is_open("go")):
            time.sleep(0.005)
        if not is_open("go"):
            raise Retry("this worker must go")
        return batch
    """
    await walk.app(source=source, retry="{ maxAttempts: 1 }")
    ticket = await walk.submit("echo", {"n": 1})
    for epoch in (1, 2):  # more often than it may fail
        await walk.noted(f"began {epoch}")
        await walk.platform.compute.drain((await walk.holder(ticket.run_id)).uid)
    await walk.noted("began 3")
    walk.open("go")
    assert (await walk.poll("echo", ticket.ticket)).status == 200
    assert await walk.charged(ticket.run_id) == 0


async def test_attributes_lost_by_a_queue(walk: Walk) -> None:
    source = """
    def decode(self, body, content_type):
        return {"body": body.decode(), "content_type": content_type}

    def predict(self, batch):
        run = current_run()
        return [{**batch[0], "trace": run.traceparent, "key": run.key, "tenant": run.tenant, "lane": run.lane}]
    """
    await walk.app(source=source)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    done = await walk.infer("echo", "grüße".encode(), content_type="text/plain; charset=utf-8", traceparent=trace)
    assert done.json() == {
        "body": "grüße",
        "content_type": "text/plain; charset=utf-8",
        "trace": trace,
        "key": done.ticket,
        "tenant": "default",
        "lane": "infer",
    }


async def test_one_bad_app_stops_the_loop_for_all(walk: Walk) -> None:
    await walk.app("broken", "raise RuntimeError('at import')")
    await walk.app("exits", "sys.exit(1)")
    await walk.app("good")
    for name in ("broken", "exits"):
        await walk.submit(name, {"n": 1})
    assert (await walk.infer("good", {"n": 1})).status == 200


async def test_values_of_an_apps_environment_are_no_templates(walk: Walk) -> None:
    value = "$(id) ${HOME} {{ 7*7 }} %s `ls` \" ' ; rm -rf /"
    source = "def predict(self, batch): return [os.environ['NASTY'] for _ in batch]"
    quoted = value.replace("'", "''")
    await walk.app(source=source, env=f"{{ NASTY: '{quoted}' }}")
    assert (await walk.infer("echo", {"n": 1})).body.decode() == value


async def test_an_id_in_the_body_is_trusted_over_the_token(walk: Walk) -> None:
    await walk.app("mine")
    await walk.app("theirs")
    thief = await pretend(walk, "w-theirs-one", "theirs")
    owner = await pretend(walk, "w-mine-one", "mine")
    await walk.submit("mine", {"n": 1})
    (held,) = await owner.lease()
    assert await thief.settle({**held, "worker_uid": owner.uid}) == "stale"
    answer = await thief.call("lease", {"max": 1, "wait_s": 0.0, "app": "mine", "worker_uid": owner.uid})
    assert answer.json().get("attempts", []) == []
    thief.token += "x"
    (await thief.call("lease", {"max": 1})).problem(401, "UNAUTHENTICATED")
    assert await owner.settle(held) == "ok"
