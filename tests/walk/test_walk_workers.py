"""Workers come from zero, are packed, go when nothing is left to do, and obey what an operator wants of their app."""

from __future__ import annotations

import os
import signal

from walking import ECHO, GATED, Walk, until


async def test_workers_go_when_they_idle_and_come_back_for_the_next_run(walk: Walk) -> None:
    await walk.app(worker="{ idleExitSeconds: 0.2 }")
    assert (await walk.infer("echo", {"n": 1})).status == 200
    await walk.no_worker()
    (gone,) = await walk.workers(live=False)
    assert (gone.state, gone.exit_code) == ("EXITED", 0)
    assert (await walk.infer("echo", {"n": 2})).status == 200
    assert len(await walk.workers(live=False)) == 2


async def test_as_many_workers_stay_as_the_spec_keeps(walk: Walk) -> None:
    await walk.app(worker="{ idleExitSeconds: 0.1 }", scaling="{ minInstances: 1, scaleUpCooldownSeconds: 0 }")

    async def idle() -> str | None:
        return next((worker.uid for worker in await walk.workers() if worker.state == "IDLE"), None)

    uid = await until(idle)
    first = await walk.infer("echo", {"n": 1})
    for _ in range(5):
        await walk.platform.controller.tick()
        await walk.platform.controller.maintain()
    assert [worker.uid for worker in await walk.workers()] == [uid]
    assert (await walk.platform.ledger.attempts(first.run_id))[0].worker_uid == uid


async def test_two_instances_of_one_worker_work_at_once_and_one_may_die(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note(f"pid {os.getpid()}")
        note(f"began {batch[0]['n']} {current_run().epoch}")
        hold("go")
        return [{"pid": os.getpid()}]
    """
    await walk.app(source=source, worker="{ instances: 2, idleExitSeconds: 30 }")
    tickets = [await walk.submit("echo", {"n": n}) for n in range(2)]
    await walk.noted("began 0 1")
    await walk.noted("began 1 1")
    pids = [int(line.split()[1]) for line in walk.journal if line.startswith("pid")]
    assert len(set(pids)) == 2
    assert len(await walk.workers()) == 1
    os.kill(pids[0], signal.SIGKILL)
    await until(lambda: sum(line.endswith(" 2") for line in walk.journal) == 1)
    walk.open("go")
    answers = [await walk.poll("echo", one.ticket) for one in tickets]
    assert [answer.status for answer in answers] == [200, 200]
    assert pids[1] in {answer.json()["pid"] for answer in answers}
    assert sorted([len(await walk.platform.ledger.attempts(one.run_id)) for one in tickets]) == [1, 2]


async def test_a_paused_app_takes_runs_in_and_starts_none(walk: Walk) -> None:
    await walk.app()
    assert (await walk.wish("echo", "pause"))["desired_state"] == "Paused"
    ticket = await walk.submit("echo", {"n": 1})
    await walk.platform.controller.tick()
    await walk.platform.controller.maintain()
    assert await walk.workers(live=False) == []
    assert (await walk.ask("GET", "/v1/apps/echo")).json()["phase"] == "Paused"
    assert (await walk.wish("echo", "resume"))["desired_state"] == "Ready"
    assert (await walk.poll("echo", ticket.ticket)).status == 200


async def test_a_worker_that_waits_while_its_app_is_paused_gets_nothing(walk: Walk) -> None:
    await walk.app()
    await walk.infer("echo", {"n": 0})  # so that a worker waits
    await walk.wish("echo", "pause")
    ticket = await walk.submit("echo", {"n": 1})
    await walk.platform.controller.tick()
    assert (await walk.poll("echo", ticket.ticket, wait=0)).json()["state"] == "QUEUED"
    assert (await walk.infer("echo", {"n": 0})).headers["penstock-cache"] == "hit"
    await walk.wish("echo", "resume")
    assert (await walk.poll("echo", ticket.ticket)).status == 200
    assert len(await walk.workers(live=False)) == 1


async def test_a_draining_app_refuses_what_is_new_and_finishes_what_it_has(walk: Walk) -> None:
    await walk.app(source=GATED)
    tickets = [await walk.submit("echo", {"n": n}) for n in range(3)]
    await walk.noted("began 0")
    await walk.wish("echo", "drain")
    problem = (await walk.infer("echo", {"n": 9})).problem(409, "CONFLICT")
    assert "resume" in problem["detail"]
    walk.open("go")
    assert [(await walk.poll("echo", one.ticket)).status for one in tickets] == [200] * 3
    await walk.wish("echo", "resume")
    assert (await walk.infer("echo", {"n": 9})).status == 200


async def test_deleting_an_app_needs_force_while_it_has_live_runs_and_cancels_them(walk: Walk) -> None:
    await walk.app(source=GATED)
    held = await walk.submit("echo", {"n": 1})
    await walk.noted("began 1")
    waits = await walk.submit("echo", {"n": 2})
    (await walk.ask("DELETE", "/v1/apps/echo")).problem(409, "CONFLICT")
    assert (await walk.ask("DELETE", "/v1/apps/echo?force=true")).status == 204
    for one in (held, waits):
        record = await walk.record(one.run_id)
        assert (record["state"], record["reason"]) == ("CANCELLED", "APP_DELETED")
    (await walk.infer("echo", {"n": 3})).problem(404, "NOT_FOUND")
    walk.open("go")
    await walk.no_worker()
    assert (await walk.app(source=ECHO)).json()["generation"] == 2  # a name goes on counting


async def test_an_apply_is_a_compare_and_set_and_can_be_tried_dry(walk: Walk) -> None:
    first = await walk.app()
    etag = first.headers["etag"]
    again = await walk.app()
    assert (again.status, again.json()["changes"], again.headers["etag"]) == (200, [], etag)
    text = walk.spec("echo", ECHO, maxBodyBytes=77)
    dry = await walk.ask("PUT", "/v1/apps/echo?dry_run=true", text.encode(), content_type="application/yaml")
    assert (dry.json()["dry_run"], [change["pointer"] for change in dry.json()["changes"]]) == (
        True,
        ["/spec/maxBodyBytes"],
    )
    assert (await walk.ask("GET", "/v1/apps/echo")).headers["etag"] == etag
    changed = await walk.apply("echo", text, if_match=etag)
    assert changed.json()["generation"] == 2
    late = await walk.ask("PUT", "/v1/apps/echo", text.encode(), content_type="application/yaml", if_match=etag)
    late.problem(409, "CONFLICT")
    spec = await walk.ask("GET", "/v1/apps/echo/spec")
    assert (await walk.apply("echo", spec.body.decode())).json()["changes"] == []


async def test_what_workers_print_is_in_the_apps_log(walk: Walk) -> None:
    await walk.app(source="def predict(self, batch): print('hello from', batch[0]['n']); return batch")
    await walk.infer("echo", {"n": "seven"})
    (worker,) = await walk.workers()

    async def printed() -> bool:
        log = (await walk.ask("GET", "/v1/apps/echo/logs?tail=50")).body.decode()
        return any(worker.uid in line and "hello from seven" in line for line in log.splitlines())

    await until(printed)
