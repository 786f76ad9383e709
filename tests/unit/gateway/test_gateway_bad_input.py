"""Whatever is sent, the answer is a problem document that says what to change, and nothing was accepted."""

from __future__ import annotations

import logging

import pytest
from gateway_stack import exchange

from penstock.errors import Unavailable
from penstock.model.app import App, DesiredState

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"


def assert_problem(answer, status, code=None):
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    told = answer.json()
    assert told["status"] == status
    assert told["type"].startswith("urn:penstock:problem:")
    assert told["request_id"] == answer.headers["x-request-id"]
    assert told["title"]
    assert told["detail"]
    assert isinstance(told["retryable"], bool)
    if code is not None:
        assert told["code"] == code
    return told


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1//status/x", 404),
        ("GET", "/v1/echo/status/", 404),
        ("GET", "/v1/echo/status/a%2Fb", 404),
        ("POST", "/v1/no-such-app/infer", 404),
        ("POST", "/v1/apps/infer", 405),
        ("GET", "/v1/echo/infer", 405),
        ("PATCH", "/v1/apps/echo", 405),
        ("GET", "/v1/no-such-app/status/x", 404),
        ("GET", f"/v1/runs/{RUN}", 404),
        ("GET", "/v1/runs/not-an-id", 404),
        ("GET", f"/v1/runs/{RUN}/result", 404),
        ("GET", f"/v1/runs/{RUN}/explain", 404),
        ("GET", f"/v1/runs/{RUN}/events", 404),
        ("POST", f"/v1/runs/{RUN}/cancel", 404),
        ("POST", f"/v1/runs/{RUN}/retry", 404),
        ("GET", "/v1/apps/no-such-app", 404),
        ("DELETE", "/v1/apps/no-such-app", 404),
        ("POST", "/v1/apps/no-such-app/pause", 404),
        ("GET", "/v1/apps/no-such-app/logs", 404),
        ("GET", "/v1/runs?limit=0", 422),
        ("GET", "/v1/runs?limit=201", 422),
        ("GET", "/v1/runs?limit=many", 422),
        ("GET", "/v1/runs?state=DONE", 422),
        ("GET", "/v1/runs?sate=QUEUED", 422),
        ("GET", "/v1/runs?after=x", 422),
        ("GET", "/v1/runs?since=yesterday", 422),
        ("GET", "/v1/runs?since=1.2.3", 422),
        ("GET", "/v1/runs?limit=1&limit=2", 400),
        ("GET", "/v1/runs?tag=%ff", 400),
        ("GET", "/v1/workers?state=TIRED", 422),
        ("GET", "/files/AppData/x?sig=made-up&exp=9999999999&m=GET", 403),
        ("GET", "/files/AppData/x", 403),
        ("POST", "/internal/v1/lease", 401),
    ],
)
async def test_what_is_not_there_or_not_so_is_refused(stack, method, path, status):
    assert_problem(await stack.ask(method, path), status)


async def test_a_405_says_what_is_allowed(stack):
    answer = await stack.ask("PATCH", "/v1/apps/echo")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Penstock-Priority", "10"),
        ("Penstock-Priority", "-1"),
        ("Penstock-Priority", "high"),
        ("Penstock-Priority", "\u00b2"),
        ("Penstock-Deadline", "0"),
        ("Penstock-Deadline", "-5"),
        ("Penstock-Deadline", "soon"),
        ("Penstock-Deadline", "nan"),
        ("Penstock-Deadline", "2001-01-01T00:00:00Z"),
        ("Penstock-Tag", "x" * 257),
        ("Penstock-Tag", "a\tb"),
        ("Penstock-Tag", "\u00ff"),
        ("Penstock-Parent", "echo"),
        ("Penstock-Parent", f"../{RUN}"),
        ("Penstock-Webhook", "ftp://example.org"),
        ("Penstock-Webhook", "https://"),
        ("Penstock-Webhook", "http://[::1"),
        ("Penstock-Webhook", "https://example.org/" + "x" * 2048),
        ("Idempotency-Key", "x" * 300),
        ("Idempotency-Key", '""'),
        ("Idempotency-Key", "\u00e9"),
    ],
)
async def test_a_header_that_makes_no_sense_is_named(stack, header, value):
    answer = await stack.ask("POST", "/v1/echo/infer", b"x", {header: value, "Prefer": "respond-async"})
    assert header in assert_problem(answer, 422, "INVALID")["detail"]
    assert await stack.services.ledger.latest("default", "echo", "x") is None
    assert await stack.services.ledger.lanes() == []


@pytest.mark.parametrize("prefer", ["wait=soon", "wait=-1", "handling=lenient", "wait", ",,;;==", "wait=\u00b2"])
async def test_a_preference_that_can_not_be_read_is_passed_over(stack, prefer):
    answer = await stack.ask("POST", "/v1/echo/infer", b"x", {"Prefer": prefer})
    assert answer.status == 202
    assert "preference-applied" not in answer.headers


@pytest.fixture
async def narrow(stack):
    await stack.services.catalog.apply(App(name="echo", handler="echo:Echo", max_body_bytes=1000))
    return stack


async def test_a_body_that_says_that_it_is_too_large_is_not_read(narrow):
    asked = exchange("POST", "/v1/echo/infer", [b"x" * 1001], {"content-length": "1001", "expect": "100-continue"})
    assert_problem(await narrow.finish(asked), 413, "TOO_LARGE")
    assert asked.received == 0


async def test_a_body_in_chunks_is_not_kept_past_the_limit(narrow):
    asked = exchange("POST", "/v1/echo/infer", [b"x" * 400] * 100_000)
    answer = await narrow.finish(asked)
    assert_problem(answer, 413, "TOO_LARGE")
    assert answer.headers["connection"] == "close"
    assert asked.received < 50_000  # what is dropped after the answer is bounded too
    assert await narrow.services.ledger.lanes() == []


async def test_a_body_of_exactly_the_limit_is_taken(narrow):
    assert (await narrow.ask("POST", "/v1/echo/infer", [b"x" * 400, b"y" * 600])).status == 202


async def test_a_client_that_hangs_up_in_its_body_submitted_nothing(stack):
    asked = exchange("POST", "/v1/echo/infer", [b"half"])
    asked.breaks = True
    asked.hung_up.set()
    await stack.app(asked.scope, asked.receive, asked.send)
    assert await stack.services.ledger.lanes() == []


async def test_a_draining_app_takes_nothing_new(stack):
    await stack.services.catalog.set_desired_state("echo", DesiredState.DRAINING)
    assert_problem(await stack.infer(b"x"), 409, "CONFLICT")


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[1]", "application/json", 422),
        (b'{"message": 5}', "application/json", 422),
        (b"message: x", "application/yaml", 415),
        (b"x" * (1024 * 1024 + 1), "application/json", 413),
        (b"[" * 100_000, "application/json", 400),
    ],
)
async def test_a_document_that_can_not_be_read_is_refused(stack, body, media_type, status):
    run_id = (await stack.infer(b"x")).json()["run_id"]
    answer = await stack.ask("POST", f"/v1/runs/{run_id}/cancel", body, {"content-type": media_type})
    told = assert_problem(answer, status)
    if body == b'{"message": 5}':
        assert told["errors"] == [
            {"pointer": "/message", "message": "expected text, got the number 5; put it in quotes"}
        ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8080"}, 403),
        ({"host": "localhost@evil.example"}, 403),
        ({"host": ""}, 403),
        ({"host": "10.0.0.1"}, 403),
        ({"host": "[::1"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"host": "localhost:8080"}, 202),
        ({"host": "[::1]:8080"}, 202),
        ({"host": "LOCALHOST"}, 202),
        ({"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}, 202),
        ({"sec-fetch-site": "none"}, 202),
    ],
)
async def test_no_web_page_reaches_an_open_gateway(stack, headers, status):
    answer = await stack.ask("POST", "/v1/echo/infer", b"x", headers)
    assert answer.status == status
    if status == 403:
        assert_problem(answer, 403, "FORBIDDEN")
        assert await stack.services.ledger.lanes() == []


async def test_a_request_id_is_echoed_or_minted(stack):
    given = await stack.ask("GET", "/healthz", headers={"X-Request-ID": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    minted = [(await stack.ask("GET", "/healthz")).headers["x-request-id"] for _ in range(2)]
    assert minted[0] != minted[1]
    spoilt = await stack.ask("GET", "/healthz", headers={"X-Request-ID": "a b\tc"})
    assert spoilt.headers["x-request-id"] not in ("", "a b\tc")


async def test_a_bug_of_ours_is_a_problem_that_tells_nothing(stack, monkeypatch, caplog):
    def burst(_app):
        raise RuntimeError("secret: hunter2")

    monkeypatch.setattr(stack.controller, "status", burst)
    with caplog.at_level(logging.ERROR):
        answer = await stack.ask("GET", "/v1/apps/echo", headers={"X-Request-ID": "mine-2"})
    assert_problem(answer, 500, "INTERNAL")
    assert b"hunter2" not in answer.body
    assert b"Traceback" not in answer.body
    assert caplog.records[0].request_id == "mine-2"
    assert "hunter2" in str(caplog.records[0].exc_info[1])


async def test_when_the_ledger_is_down_nothing_is_accepted(stack, monkeypatch):
    async def down(_command):
        raise Unavailable("the ledger does not answer")

    monkeypatch.setattr(stack.services.ledger, "accept", down)
    answer = await stack.infer(b"x")
    told = assert_problem(answer, 503, "UNAVAILABLE")
    assert told["retryable"] is True
    assert answer.headers["retry-after"] == "1"
