"""Apps as an operator meets them: apply with care, read back, pause, drain, delete; logs and workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest
from gateway_stack import exchange

from penstock.errors import NotFound
from penstock.gateway.app import build
from penstock.ledger.commands import EndWorker, Remember
from penstock.model.documents import AppDocument, AppEventPage, AppliedDocument, AppPage, DecisionPage, WorkerPage
from penstock.model.fleet import WorkerState
from penstock.model.placement import AppEvent, Code, Decision, Drop, Phase

SPEC = b"""\
apiVersion: penstock/v1
kind: App
metadata: { name: vision, labels: { team: a } }
spec: { handler: "vision:Vision", scaling: { maxInstances: 2 } }
"""


async def fetched(stack, path, kind):
    answer = await stack.ask("GET", path)
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=kind)


async def put(stack, body=SPEC, query="", **headers):
    return await stack.ask(
        "PUT", f"/v1/apps/vision{query}", body, {name.replace("_", "-"): v for name, v in headers.items()}
    )


async def test_apply_is_new_then_a_change_then_nothing(stack):
    first = await put(stack)
    applied = msgspec.json.decode(first.body, type=AppliedDocument)
    assert (first.status, applied.created, applied.generation) == (201, True, 1)
    assert first.headers["etag"] == f'"{applied.etag}"'
    second = await put(stack, SPEC.replace(b"2 }", b"3 }"))
    changed = second.json()
    assert (second.status, changed["generation"]) == (200, 2)
    assert changed["changes"] == [{"pointer": "/spec/scaling/maxInstances", "before": 2, "after": 3}]
    third = await put(stack, SPEC.replace(b"2 }", b"3 }"))
    assert (third.json()["generation"], third.json()["changes"]) == (2, [])
    assert stack.controller.nudged == ["vision"] * 3


async def test_a_dry_run_tells_and_writes_nothing(stack):
    told = await put(stack, query="?dry_run=true")
    assert (told.status, told.json()["created"], told.json()["dry_run"]) == (200, True, True)
    assert (await stack.ask("GET", "/v1/apps/vision")).status == 404


async def test_if_match_keeps_one_writer_from_treading_on_another(stack):
    etag = (await put(stack)).headers["etag"]
    assert (await put(stack, SPEC.replace(b"2 }", b"3 }"), If_Match=etag)).status == 200
    late = await put(stack, SPEC.replace(b"2 }", b"4 }"), If_Match=etag)
    assert (late.status, late.headers["content-type"]) == (409, "application/problem+json")
    assert (await stack.ask("GET", "/v1/apps/vision")).json()["spec"]["scaling"] == {"maxInstances": 3}


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (SPEC.replace(b"maxInstances", b"maxInstance"), 422, "/spec/scaling/maxInstance"),
        (SPEC.replace(b"vision,", b"other,"), 422, "/metadata/name"),
        (b"", 422, None),
        (SPEC + b"---\n" + SPEC.replace(b"vision,", b"other,"), 422, None),
        (b"{", 422, ""),
        (b"\xff", 400, None),
        (b"# " + b"x" * 1024 * 1024, 413, None),
    ],
)
async def test_a_wrong_spec_is_refused_with_its_places(stack, body, status, pointer):
    answer = await put(stack, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    if pointer is not None:
        assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]
    assert (await stack.ask("GET", "/v1/apps/vision")).status == 404


async def test_the_spec_reads_back_as_what_can_be_applied(stack):
    await put(stack)
    text = await stack.ask("GET", "/v1/apps/vision/spec")
    assert text.headers["content-type"] == "application/yaml"
    again = await put(stack, text.body)
    assert again.json()["changes"] == []
    app = await fetched(stack, "/v1/apps/vision", AppDocument)
    assert (app.labels, app.spec) == ({"team": "a"}, {"handler": "vision:Vision", "scaling": {"maxInstances": 2}})
    assert (app.phase, app.message, app.workers) == (Phase.READY, "vision rests", 1)


async def test_apps_are_listed_page_by_page(stack):
    await put(stack)
    await stack.infer(b"x", Prefer="respond-async")
    first = await fetched(stack, "/v1/apps?limit=1", AppPage)
    assert ([app.name for app in first.items], first.items[0].queued, first.next) == (["echo"], 1, "echo")
    second = await fetched(stack, f"/v1/apps?after={first.next}", AppPage)
    assert ([app.name for app in second.items], second.next) == (["vision"], None)


@pytest.mark.parametrize(("verb", "state"), [("pause", "Paused"), ("drain", "Draining"), ("resume", "Ready")])
async def test_an_operators_wish_is_kept_and_acted_on(stack, verb, state):
    await put(stack)
    answer = await stack.ask("POST", f"/v1/apps/vision/{verb}")
    assert (answer.status, answer.json()["desired_state"], answer.json()["generation"]) == (200, state, 1)
    assert stack.controller.nudged[-1] == "vision"


async def test_an_app_with_live_runs_is_deleted_by_force_only(stack):
    ticket = (await stack.infer(b"x", Prefer="respond-async")).json()
    kept = await stack.ask("DELETE", "/v1/apps/echo")
    assert (kept.status, kept.json()["code"]) == (409, "CONFLICT")
    assert "1 live run" in kept.json()["detail"]
    waiting = asyncio.create_task(
        stack.ask("GET", f"/v1/echo/status/{ticket['ticket']}", headers={"Prefer": "wait=20"})
    )
    await asyncio.sleep(0)
    assert (await stack.ask("DELETE", "/v1/apps/echo?force=true")).status == 204
    told = await waiting
    assert (told.status, told.json()["code"]) == (410, "APP_DELETED")
    assert (await stack.ask("GET", "/v1/apps/echo")).status == 404
    assert (await stack.infer(b"x")).status == 404
    assert (await stack.ask("GET", f"/v1/runs/{ticket['run_id']}")).json()["reason"] == "APP_DELETED"


async def test_a_run_that_comes_while_its_app_is_deleted_waits_for_nobody(stack, monkeypatch):
    store = stack.services.store
    put = store.put

    async def deleted_meanwhile(*given):
        monkeypatch.undo()
        assert (await stack.ask("DELETE", "/v1/apps/echo?force=true")).status == 204
        return await put(*given)

    monkeypatch.setattr(store, "put", deleted_meanwhile)
    told = await stack.infer(b"x" * 100_000, Prefer="wait=20")
    assert (told.status, told.json()["code"]) == (410, "APP_DELETED")


async def test_events_and_decisions_are_newest_first(stack):
    events = tuple(AppEvent(app="echo", at=float(n), kind="PhaseChanged", message=f"m{n}") for n in (1, 2))
    drops = {"b": Drop(Code.STOCKED_OUT, "none left")}
    decision = Decision(app="echo", spec_generation=1, made_at=3.0, chosen="a", workers=("w",), dropped=drops)
    await stack.services.ledger.remember(Remember(events=events, decisions=(decision,)))
    found = await fetched(stack, "/v1/apps/echo/events", AppEventPage)
    assert [event.message for event in found.items] == ["m2", "m1"]
    newer = await fetched(stack, f"/v1/apps/echo/events?after={found.items[1].id}", AppEventPage)
    assert [event.message for event in newer.items] == ["m2"]
    assert (await stack.ask("GET", f"/v1/apps/echo/events?after={2**63}")).status == 422
    (placed,) = (await fetched(stack, "/v1/apps/echo/decisions", DecisionPage)).items
    assert (placed.chosen, placed.dropped) == ("a", drops)


async def test_workers_are_listed_live_or_ended(stack):
    await stack.worker(uid="w-echo-aaaaaaaaaa")
    await stack.worker(uid="w-echo-bbbbbbbbbb")
    await stack.services.ledger.end_worker(EndWorker(uid="w-echo-bbbbbbbbbb", state=WorkerState.EXITED, exit_code=0))
    live = await fetched(stack, "/v1/workers?app=echo", WorkerPage)
    assert [worker.worker_uid for worker in live.items] == ["w-echo-aaaaaaaaaa"]
    ended = await fetched(stack, "/v1/workers?state=EXITED", WorkerPage)
    assert [(worker.worker_uid, worker.exit_code) for worker in ended.items] == [("w-echo-bbbbbbbbbb", 0)]


class Shelf:
    """A compute that has only logs."""

    def __init__(self, **logs):
        self.logs_of = logs

    async def logs(self, uid, *, tail, follow):
        if uid not in self.logs_of:
            raise NotFound("no log")
        for line in self.logs_of[uid][-tail:]:
            yield line
        if follow:
            await asyncio.Event().wait()


@pytest.fixture
async def shelf(stack):
    """Give a gateway whose compute has logs of two workers."""
    logs = {"w-echo-aaaaaaaaaa": ["one", "two", "three"], "w-echo-bbbbbbbbbb": ["four"]}
    stack.services = replace(stack.services, compute=Shelf(**logs), registry=type(stack.services.registry)())
    stack.app = build(stack.services)
    await stack.worker(uid="w-echo-aaaaaaaaaa")
    return stack


async def test_logs_are_the_last_lines_of_each_worker(shelf):
    await shelf.worker(uid="w-echo-bbbbbbbbbb")
    answer = await shelf.ask("GET", "/v1/apps/echo/logs?tail=2")
    assert answer.headers["content-type"].startswith("text/plain")
    assert sorted(answer.body.decode().splitlines()) == [
        "[w-echo-aaaaaaaaaa] three",
        "[w-echo-aaaaaaaaaa] two",
        "[w-echo-bbbbbbbbbb] four",
    ]
    one = await shelf.ask("GET", "/v1/apps/echo/logs?worker=w-echo-bbbbbbbbbb")
    assert one.body == b"[w-echo-bbbbbbbbbb] four\n"
    assert (await shelf.ask("GET", "/v1/apps/echo/logs?worker=w-other")).status == 404


async def test_followed_logs_take_in_workers_that_start_later(shelf, monkeypatch):
    monkeypatch.setattr("penstock.gateway.logs._LOOK_S", 0.01)
    asked = exchange("GET", "/v1/apps/echo/logs?follow=true&tail=1")
    following = asyncio.create_task(shelf.app(asked.scope, asked.receive, asked.send))
    await asked.until(lambda line: line == b"[w-echo-aaaaaaaaaa] three\n")
    await shelf.worker(uid="w-echo-bbbbbbbbbb")
    await asked.until(lambda line: line == b"[w-echo-bbbbbbbbbb] four\n")
    asked.hung_up.set()
    await following


async def test_the_schema_is_for_editors(stack):
    answer = await stack.ask("GET", "/v1/schema")
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json()["$schema"].endswith("2020-12/schema")
