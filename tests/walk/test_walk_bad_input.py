"""What bad input gets: a clear problem, at once; and nothing of it disturbs another's run."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from walking import GATED, Walk

CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


@pytest.fixture
async def neighbour(walk: Walk):
    """Have a run in the hands of a worker all the while; it must succeed in its first attempt."""
    await walk.app("neighbour", GATED)
    ticket = await walk.submit("neighbour", {"n": "neighbour"})
    await walk.noted("began neighbour")
    yield
    walk.open("go")
    assert (await walk.poll("neighbour", ticket.ticket)).status == 200
    assert len((await walk.record(ticket.run_id))["attempts"]) == 1


@pytest.mark.usefixtures("neighbour")
async def test_bodies_headers_and_names_that_can_not_be_taken(walk: Walk) -> None:
    await walk.app(maxBodyBytes=1000)
    (await walk.infer("echo", b"x" * 1001)).problem(413, "TOO_LARGE")
    (await walk.infer("nobody", b"x")).problem(404, "NOT_FOUND")
    (await walk.poll("echo", "unknown")).problem(404, "NOT_FOUND")
    (await walk.poll("echo", "%2e%2e/x" * 50)).problem(404, "NOT_FOUND")
    (await walk.cancel("echo", "unknown")).problem(404, "NOT_FOUND")
    (await walk.ask("GET", "/v1/runs/unknown")).problem(404, "NOT_FOUND")
    (await walk.ask("GET", "/v1/runs/01a1fe0d-6cd5-7c47-a3ee-620a97b08561")).problem(404, "NOT_FOUND")
    (await walk.ask("PATCH", "/v1/echo/infer")).problem(405, "METHOD_NOT_ALLOWED")
    (await walk.ask("GET", "/v1/no/such/place")).problem(404, "NOT_FOUND")
    for name, value in (
        ("penstock_priority", "10"),
        ("penstock_priority", "-1"),
        ("penstock_deadline", "yesterday"),
        ("penstock_deadline", "2001-01-01T00:00:00Z"),
        ("penstock_parent", "nobody"),
        ("penstock_webhook", "ftp://x"),
        ("penstock_tag", "x" * 257),
        ("idempotency_key", ""),
    ):
        (await walk.infer("echo", b"x", **{name: value})).problem(422, "INVALID")
    assert (await walk.ask("GET", "/v1/runs?app=echo")).json()["items"] == []


@pytest.mark.usefixtures("neighbour")
async def test_a_declared_json_body_that_is_none_is_the_submitters_fault(walk: Walk) -> None:
    await walk.app()
    for body in (b"{", b'{"a": 1', b"\xff\xfe", b"[" * 100_000):
        (await walk.infer("echo", body, content_type="application/json")).problem(422, "INVALID_INPUT")
    assert (await walk.infer("echo", b'{"a": 1', content_type="application/octet-stream")).body == b'{"a": 1'
    assert (await walk.infer("echo", b"")).status == 200


@pytest.mark.usefixtures("neighbour")
async def test_an_endless_body_is_cut_off_at_the_limit(walk: Walk) -> None:
    await walk.app(maxBodyBytes=1000)
    place = urlsplit(walk.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(b"POST /v1/echo/infer HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n")
    answer, sent = asyncio.create_task(reader.readuntil(b"\r\n\r\n")), 0
    while not answer.done():
        writer.write(CHUNK)
        sent += len(CHUNK)
        await writer.drain()
        assert sent < 2**28, "nobody refused it"
    assert (await answer).startswith(b"HTTP/1.1 413 ")
    assert b'"code":"TOO_LARGE"' in await reader.read(1000)
    writer.close()


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("name: echo\nhandler: x:Y\nscalling: {}", 422, "scaling"),
        ("name: echo\nhandler: x:Y\nscaling: { maxInstances: many }", 422, "3:12: expected a whole number"),
        ("name: other\nhandler: x:Y", 422, "name different apps"),
        ("name: Echo!\nhandler: x:Y", 422, "lower-case letters"),
        ("{", 422, ""),
        ("", 422, "send one app, not 0"),
        ("a: &a [x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b, *b, *b]", 422, ""),
        ("[" * 20_000, 422, ""),
        ("a: " * 5_000, 422, ""),
        ("\x00", 422, ""),
        ("name: echo\n" + "# long\n" * 200_000, 413, ""),
    ],
    ids=["typo", "kind", "name", "label", "broken", "empty", "bomb", "deep", "nested", "nul", "long"],
)
async def test_yaml_that_is_no_app_is_refused_with_its_place(walk: Walk, text: str, status: int, said: str) -> None:
    async with asyncio.timeout(5):
        answer = await walk.ask("PUT", "/v1/apps/echo", text.encode(), content_type="application/yaml")
    assert answer.status == status, answer.body
    problem = answer.problem(status, answer.json()["code"])
    assert problem["code"] in {"INVALID_SPEC", "INVALID", "TOO_LARGE"}
    assert said in problem["detail"]
    (await walk.ask("GET", "/v1/apps/echo")).problem(404, "NOT_FOUND")
    assert (await walk.ask("GET", "/health/ready")).status == 200


async def test_an_app_with_a_reserved_name_is_refused(walk: Walk) -> None:
    for name in ("runs", "health", "openapi"):
        text = f"name: {name}\nhandler: x:Y"
        answer = await walk.ask("PUT", f"/v1/apps/{name}", text.encode(), content_type="application/yaml")
        answer.problem(422, "INVALID_SPEC")
