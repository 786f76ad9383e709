"""The runs face on real parts: records, events, explanations, retries, and what a handler tells while it works."""

from __future__ import annotations

import asyncio

from walking import GATED, Walk, until


async def test_a_record_tells_of_the_run_its_attempts_and_its_placement(walk: Walk) -> None:
    await walk.app()
    done = await walk.infer("echo", {"n": 1}, penstock_tag="night", penstock_priority="7")
    record = await walk.record(done.run_id)
    assert (record["app"], record["tag"], record["priority"], record["ticket"]) == ("echo", "night", 7, done.ticket)
    (attempt,) = record["attempts"]
    (worker,) = await walk.workers()
    assert (attempt["epoch"], attempt["state"], attempt["worker_uid"]) == (1, "SUCCEEDED", worker.uid)
    assert record["created_at"] <= attempt["leased_at"] <= attempt["finished_at"] <= record["finished_at"]
    assert record["placement"]["chosen"] == "local"
    assert record["links"]["result"] == f"{walk.url}/v1/runs/{done.run_id}/result"
    assert (await walk.ask("GET", f"/v1/runs/{done.run_id}/result")).body == done.body


async def test_runs_are_listed_newest_first_page_by_page_and_by_what_they_are(walk: Walk) -> None:
    await walk.app()
    ids = [(await walk.infer("echo", {"n": n}, penstock_tag=f"t{n % 2}")).run_id for n in range(5)]
    page = (await walk.ask("GET", "/v1/runs?limit=3")).json()
    rest = (await walk.ask("GET", f"/v1/runs?limit=3&after={page['next']}")).json()
    assert [run["id"] for run in [*page["items"], *rest["items"]]] == ids[::-1]
    assert rest["next"] is None
    tagged = (await walk.ask("GET", "/v1/runs?tag=t1&app=echo&state=SUCCEEDED&lane=infer")).json()["items"]
    assert [run["id"] for run in tagged] == [ids[3], ids[1]]
    (await walk.ask("GET", "/v1/runs?colour=red")).problem(422, "INVALID")
    (await walk.ask("GET", "/v1/runs?limit=0")).problem(422, "INVALID")


async def test_events_tell_the_story_as_it_goes_and_can_be_taken_up_where_they_broke(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note("began")
        hold("half")
        current_run().progress(0.5, "half done")
        hold("go")
        return batch
    """
    await walk.app(source=source, deadlines="{ leaseSeconds: 1 }")
    ticket = await walk.submit("echo", {"n": 1})
    async with walk.events(ticket.run_id) as events, asyncio.timeout(10):  # less than a look at the ledger in silence
        kinds = [(await anext(events)).type, (await anext(events)).type]
        walk.open("half")
        halfway = await anext(events)
    assert kinds == ["queued", "leased"]
    assert halfway.type == "progress"
    assert '"progress":0.5' in halfway.data
    assert (await walk.record(ticket.run_id))["progress_note"] == "half done"
    async with walk.events(ticket.run_id, last_event_id=halfway.id) as events:
        walk.open("go")
        assert [event.type async for event in events] == ["succeeded"]
    async with walk.events(ticket.run_id) as events:
        assert [event.type async for event in events] == ["queued", "leased", "succeeded"]


async def test_events_of_a_run_that_was_tried_twice(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if current_run().epoch == 1:
            raise Retry("later")
        return batch
    """
    await walk.app(source=source)
    done = await walk.infer("echo", {"n": 1})
    async with walk.events(done.run_id) as events:
        told = [event async for event in events]
    assert [event.type for event in told] == ["queued", "leased", "returned", "leased", "succeeded"]
    assert len({event.id for event in told}) == 5


async def test_explain_says_which_gate_holds_a_run(walk: Walk) -> None:
    await walk.app(source=GATED)
    await walk.wish("echo", "pause")
    waiting = await walk.submit("echo", {"n": 1})
    paused = (await walk.ask("GET", f"/v1/runs/{waiting.run_id}/explain")).json()
    assert (paused["state"], "Paused" in paused["summary"]) == ("QUEUED", True)
    assert [step["kind"] for step in paused["steps"]][:3] == ["accepted", "app", "queue"]
    assert "done in" not in paused["steps"][2]["text"], "nobody knows when a paused app goes on"
    await walk.wish("echo", "resume")
    await walk.noted("began 1")
    running = (await walk.ask("GET", f"/v1/runs/{waiting.run_id}/explain")).json()
    assert running["summary"] == "It is running, attempt 1"
    walk.open("go")
    await walk.poll("echo", waiting.ticket)
    ended = (await walk.ask("GET", f"/v1/runs/{waiting.run_id}/explain")).json()
    assert [step["kind"] for step in ended["steps"]] == ["accepted", "app", "attempt", "result"]


async def test_explain_says_what_holds_an_app_that_can_not_start(walk: Walk) -> None:
    await walk.app(source="raise RuntimeError('no model here')")
    waiting = await walk.submit("echo", {"n": 1})

    async def held() -> str | None:
        summary = str((await walk.ask("GET", f"/v1/runs/{waiting.run_id}/explain")).json()["summary"])
        return summary if "Held" in summary else None

    assert "RuntimeError: no model here" in await until(held)
    app = (await walk.ask("GET", "/v1/apps/echo")).json()
    assert (app["phase"], app["reason"], app["queued"]) == ("Held", "CONFIG", 1)


async def test_a_failed_run_is_retried_with_its_body_and_its_settings(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if not is_open("mended"):
            raise InvalidInput("not yet")
        return [{**item, "seen": current_run().traceparent} for item in batch]
    """
    await walk.app(source=source)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"penstock_tag": "t", "penstock_priority": "8", "traceparent": trace}
    failed = await walk.infer("echo", {"n": 1}, **headers)
    failed.problem(422, "INVALID_INPUT")
    walk.open("mended")
    again = await walk.ask("POST", f"/v1/runs/{failed.run_id}/retry")
    record = again.json()
    assert (again.status, record["generation"], record["tag"], record["priority"]) == (202, 2, "t", 8)
    done = await walk.poll("echo", failed.ticket)
    assert done.json() == {"n": 1, "seen": trace}
    (await walk.ask("POST", f"/v1/runs/{done.run_id}/retry")).problem(409, "CONFLICT")
    (await walk.ask("GET", f"/v1/runs/{failed.run_id}/result")).problem(422, "INVALID_INPUT")


async def test_a_checkpoint_is_where_the_next_attempt_resumes(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        run = current_run()
        if run.last_checkpoint:
            return [{"resumed": run.last_checkpoint.decode(), "attempts_left": run.attempts_left}]
        run.checkpoint(b"page 7")
        note("saved")
        while not run.stopping:
            time.sleep(0.005)
        raise Retry("preempted")
    """
    await walk.app(source=source)
    ticket = await walk.submit("echo", {"n": 1})
    await walk.noted("saved")
    preempted = await walk.holder(ticket.run_id)
    await walk.platform.compute.drain(preempted.uid)
    answer = await walk.poll("echo", ticket.ticket)
    assert answer.json() == {"resumed": "page 7", "attempts_left": 3}  # it was nobody's fault
    assert await walk.charged(ticket.run_id) == 0


async def test_redrive_retries_what_matches_and_nothing_else(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note("ran")
        if not is_open("mended"):
            raise InvalidInput("not yet")
        return batch
    """
    await walk.app(source=source)
    failed = [await walk.infer("echo", {"n": n}, penstock_tag="a" if n < 2 else "b") for n in range(3)]
    walk.open("mended")
    answer = await walk.ask("POST", "/v1/runs/redrive", {"tag": "a"})
    assert (answer.status, answer.json()) == (202, {"count": 2})
    answers = await asyncio.gather(*(walk.poll("echo", one.ticket) for one in failed))
    assert [one.status for one in answers] == [200, 200, 422]
