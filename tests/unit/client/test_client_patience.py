"""What is repeated, how often, and after which pause: against a server that fails on purpose."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from penstock import errors
from penstock.client import AsyncClient, Patience
from penstock.client.failures import RunCancelled, RunFailed, from_response
from penstock.client.streams import ServerEvent, lines, server_events
from penstock.model.documents import Problem
from penstock.model.run import State
from penstock.testing.clock import seeded

WHO = b'{"sub":"me","tenant":"default","scopes":[]}'


def problem(code, status, **more):
    return msgspec.json.encode(Problem(code=code, status=status, detail="d", **more))


class Scripted:
    """A server that gives scripted answers, one per connection: (status, headers, body), or None to hang up."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def __call__(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        answer = self.answers.pop(0)
        if answer is not None:
            status, headers, body = answer
            if not any(header.startswith("content-length") for header in headers):
                headers = [*headers, f"content-length: {len(body)}"]
            head = "\r\n".join([f"HTTP/1.1 {status} X", *headers, "connection: close", "", ""])
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()


PROBLEM = "content-type: application/problem+json"
DOWN = (503, [PROBLEM, "retry-after: 2"], problem("UNAVAILABLE", 503, retryable=True))
OK = (200, ["content-type: application/json"], WHO)


@asynccontextmanager
async def asking(*answers, patience=None):
    server = Scripted(*answers)
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with AsyncClient(url, patience=patience, random=seeded(1), sleep=sleep) as client:
            yield client, server, pauses


async def test_a_get_is_repeated_with_pauses_that_heed_the_server():
    broken = (502, ["content-type: text/html"], b"<h1>Bad gateway</h1>")
    async with asking(DOWN, broken, OK) as (client, server, pauses):
        assert (await client.whoami()).sub == "me"
    assert len(server.asked) == 3
    assert 2.0 <= pauses[0] <= 2.2
    assert 0.0 <= pauses[1] <= 0.4


async def test_patience_ends():
    async with asking(*[DOWN] * 3, patience=Patience(tries=3)) as (client, server, pauses):
        with pytest.raises(errors.Unavailable):
            await client.whoami()
    assert (len(server.asked), len(pauses)) == (3, 2)


async def test_nobody_waits_for_longer_than_a_minute():
    late = (429, [PROBLEM, "retry-after: 61"], problem("EXCEEDED", 429, retryable=True))
    async with asking(late) as (client, _, pauses):
        with pytest.raises(errors.Exceeded) as exceeded:
            await client.whoami()
    assert (exceeded.value.retry_after, pauses) == (61.0, [])


@pytest.mark.parametrize("lost", [None, DOWN])
async def test_a_post_without_a_key_is_never_repeated(lost):
    async with asking(lost) as (client, server, _):
        with pytest.raises(errors.Unavailable):
            await client.submit("echo", b"x")
        assert len(server.asked) == 1


@pytest.mark.parametrize("lost", [None, DOWN])
@pytest.mark.parametrize("key", [{"idempotency_key": "k"}, {"rid": "r"}])
async def test_a_post_with_a_key_is_repeated(lost, key):
    async with asking(lost, (200, ["penstock-ticket: t"], b"r")) as (client, server, _):
        assert (await client.submit("echo", {}, **key)).answer.data == b"r"
    assert len(server.asked) == 2


async def test_a_refusal_is_not_repeated():
    async with asking((404, [PROBLEM], problem("NOT_FOUND", 404))) as (client, server, _):
        with pytest.raises(errors.NotFound):
            await client.whoami()
    assert len(server.asked) == 1


async def test_a_stream_that_breaks_is_taken_up_where_it_broke():
    first = b'id: 1\nevent: queued\ndata: {"at":"2030-01-01T00:00:00Z"}\n\nid: 2\nevent: lea'
    rest = b'id: 3\nevent: succeeded\ndata: {"at":"2030-01-01T00:00:01Z","state":"SUCCEEDED"}\n\n'
    kind = "content-type: text/event-stream"
    broken = (200, [kind, "content-length: 1000"], first)
    async with asking(broken, (200, [kind], rest)) as (client, server, _):
        events = [event async for event in client.events("r")]
    assert [(event.id, event.type) for event in events] == [("1", "queued"), ("3", "succeeded")]
    assert events[1].data == {"state": "SUCCEEDED"}
    assert b"Last-Event-ID: 1" in server.asked[1]


async def test_a_stream_that_ends_before_its_run_is_taken_up_too():
    kind = "content-type: text/event-stream"
    first = b'id: 1\nevent: queued\ndata: {"at":"2030-01-01T00:00:00Z"}\n\n'
    rest = b'id: 2\nevent: failed\ndata: {"at":"2030-01-01T00:00:01Z","state":"FAILED"}\n\n'
    async with asking((200, [kind], first), (200, [kind], rest)) as (client, server, _):
        assert [event.id async for event in client.events("r")] == ["1", "2"]
    assert b"Last-Event-ID: 1" in server.asked[1]


async def test_who_does_not_wait_as_asked_is_not_pressed():
    pending = (
        b'{"ticket":"t","run_id":"r","state":"QUEUED","retry_after":7,"etaSeconds":1,"eta":{"p50":1,"p90":2},'
        b'"position":0,"status_url":"u"}'
    )
    not_yet = (202, ["content-type: application/json"], pending)
    async with asking(not_yet, not_yet, (200, [], b"done")) as (client, _, pauses):
        answer = await client.run("echo", b"x")
    assert (answer.data, pauses) == (b"done", [7])


# ------------------------------------------------------------------ pure parts


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("STALE", 409, errors.Stale),
        ("CONFLICT", 409, errors.Conflict),
        ("TOO_LARGE", 413, errors.TooLarge),
        ("METHOD_NOT_ALLOWED", 405, errors.PenstockError),
        ("A_NEW_ONE", 422, errors.Invalid),
        ("A_NEW_ONE", 429, errors.Exceeded),
        ("INTERNAL", 500, errors.PenstockError),
    ],
)
def test_a_problem_is_the_error_that_its_code_or_its_status_names(code, status, kind):
    error = from_response(status, "application/problem+json", problem(code, status, request_id="q"))
    assert type(error) is kind
    assert (error.code, error.status, str(error)) == (code, status, "d")


def test_what_a_proxy_says_is_told_by_its_status():
    error = from_response(502, "text/html", b"<h1>Bad gateway</h1>")
    assert isinstance(error, errors.Unavailable)
    assert error.status == 502
    assert type(from_response(418, "text/plain", b"")) is errors.PenstockError
    assert type(from_response(503, "application/problem+json", b"{")) is errors.Unavailable


def test_the_end_of_a_run_is_no_error_of_the_request():
    failed = from_response(500, "application/problem+json", problem("OOM", 500, state=State.FAILED, run_id="r"))
    assert (type(failed), failed.code) == (RunFailed, "OOM")
    gone = from_response(410, "application/problem+json", problem("BY_USER", 410, state=State.CANCELLED))
    assert type(gone) is RunCancelled


async def pieces(text, size):
    data = text.encode()
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_events_are_read_whatever_the_pieces(size):
    text = ": hello\n\nid: 1\nevent: a\ndata: é\r\n\r\ndata:x\ndata: y\n\nid: 9\n\nid: 2\ndata: cut of"
    found = [event async for event in server_events(pieces(text, size))]
    assert found == [ServerEvent("1", "a", "é"), ServerEvent("", "message", "x\ny")]


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_lines_are_read_whatever_the_pieces(size):
    assert [line async for line in lines(pieces("one\r\ntwo\n\nthree", size))] == ["one", "two", "", "three"]
