"""What only shows on a real connection: broken requests, bodies refused before they are sent, connections that end."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import msgspec
import pytest
from http_server import listening

from penstock.gateway.protocol import HEAD_MAX_BYTES
from penstock.model.app import App


@pytest.fixture
async def connect(stack):
    """Give `await connect()`: a fresh connection to a served gateway, whose bodies have 100,000 bytes at most."""
    await stack.services.catalog.apply(App(name="echo", handler="echo:Echo", max_body_bytes=100_000))
    writers = []
    async with listening(stack.app) as url:

        async def connect():
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
            writers.append(writer)
            return reader, writer

        yield connect
        for writer in writers:
            writer.close()


async def answer_of(reader):
    """Give the status, the headers and the body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


PROBE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Pad: " + b"x" * 1000 + b"\r\n\r\n"


def infer(*headers):
    return "\r\n".join(["POST /v1/echo/infer HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    "broken",
    [
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(connect, broken):
    reader, writer = await connect()
    writer.write(broken)
    status, headers, body = await answer_of(reader)
    assert status in (400, 404)
    assert headers["content-type"] == "application/problem+json"
    assert msgspec.json.decode(body)["status"] == status


async def test_headers_without_end_are_cut_off(connect):
    reader, writer = await connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
    for _ in range(HEAD_MAX_BYTES // 1000 + 2):
        writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
    status, headers, body = await answer_of(reader)
    assert (status, msgspec.json.decode(body)["code"]) == (431, "HEADERS_TOO_LARGE")
    assert headers["connection"] == "close"


async def test_requests_that_come_all_at_once_are_no_head_without_end(connect):
    reader, writer = await connect()
    wanted = 2 * HEAD_MAX_BYTES // len(PROBE)
    writer.write(PROBE * wanted + PROBE[:10])
    for _ in range(wanted):
        assert (await answer_of(reader))[0] == 200


async def test_a_connection_serves_request_after_request(connect):
    reader, writer = await connect()
    for number in range(3):
        body = b"%d" % number
        writer.write(infer("Prefer: respond-async", "Content-Length: 1") + body)
        assert (await answer_of(reader))[0] == 202


async def test_a_body_that_would_be_refused_is_not_asked_for(connect):
    reader, writer = await connect()
    writer.write(infer("Expect: 100-continue", "Content-Length: 100001"))
    assert (await answer_of(reader))[0] == 413  # and no "100 Continue" before it
    assert await reader.read() == b""


async def test_a_body_that_is_welcome_is_asked_for(connect):
    reader, writer = await connect()
    writer.write(infer("Expect: 100-continue", "Prefer: respond-async", "Content-Length: 5"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"12345")
    assert (await answer_of(reader))[0] == 202


@pytest.mark.parametrize("head", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
async def test_a_client_that_sends_too_much_reads_why_it_was_refused(connect, head):
    reader, writer = await connect()
    writer.write(infer(head))
    piece = b"x" * 50_000
    for _ in range(60):
        writer.write(piece if "Length" in head else b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
    if "chunked" in head:
        writer.write(b"0\r\n\r\n")
    status, headers, body = await answer_of(reader)
    assert (status, headers["connection"]) == (413, "close")
    assert b"100000 bytes" in body
    assert await reader.read() == b""


async def test_a_client_that_never_stops_sending_is_cut_off(connect):
    _, writer = await connect()
    writer.write(infer("Transfer-Encoding: chunked"))
    sent = 0

    async def send():
        nonlocal sent
        while True:
            writer.write(b"%x\r\n%s\r\n" % (100_000, b"x" * 100_000))
            await writer.drain()
            sent += 100_000

    with pytest.raises((ConnectionError, TimeoutError)):
        await asyncio.wait_for(send(), 20)
    assert sent < 64 * 1024 * 1024


async def test_head_has_the_headers_of_get_and_no_body(connect):
    reader, writer = await connect()
    writer.write(
        b"HEAD /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 27" in head
    assert (await answer_of(reader))[0] == 200  # the next answer follows at once
