"""The parts that need no server: preferences, codings, routes, and work that ends with its client."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from penstock.errors import NotFound
from penstock.gateway.encoding import inflated, takes_gzip
from penstock.gateway.endpoint import Endpoint
from penstock.gateway.hangup import HungUp, while_connected
from penstock.gateway.prefer import Preference, preference
from penstock.gateway.refusals import MethodNotAllowed
from penstock.gateway.reply import Reply
from penstock.gateway.router import Router


@pytest.mark.parametrize(
    ("header", "wait_s", "applied"),
    [
        (None, None, b""),
        (b"", None, b""),
        (b"wait=5", 5.0, b"wait=5"),
        (b'Wait="5"', 5.0, b"wait=5"),
        (b"wait = 5; note=x", 5.0, b"wait=5"),
        (b"wait=0", 0.0, b"wait=0"),
        (b"wait=61", 60.0, b"wait=60"),
        (b"wait=99999999999999999999", 60.0, b"wait=60"),
        (b"respond-async", 0.0, b"respond-async"),
        (b"respond-async, wait=10", 0.0, b"respond-async"),
        (b"return=minimal, wait=3", 3.0, b"wait=3"),
        (b"wait=1, wait=9", 1.0, b"wait=1"),
        (b"wait=1.5", None, b""),
        (b"wait=\xb2", None, b""),
    ],
)
def test_preferences_are_read_as_the_rfc_says(header, wait_s, applied):
    assert preference(header) == Preference(wait_s, applied)


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        (None, False),
        (b"gzip", True),
        (b"GZIP", True),
        (b"deflate, gzip;q=1.0, *;q=0.5", True),
        (b"gzip;q=0.000", False),
        (b"*;q=0.1", True),
        (b"*, gzip;q=0", False),
        (b"identity;q=1, gzip;q=0.5", False),
        (b"gzip;q=high", False),
        (b"br", False),
    ],
)
def test_gzip_is_sent_to_who_takes_it(header, takes):
    assert takes_gzip(header) is takes


@pytest.mark.parametrize("size", [1, 100, 100_000])
async def test_a_stream_of_several_members_is_inflated_whatever_its_pieces(size):
    packed = gzip.compress(b"a" * 1_000_000) + gzip.compress(b"b" * 10)

    async def pieces():
        for start in range(0, len(packed), size):
            yield packed[start : start + size]

    found = [piece async for piece in inflated(pieces())]
    assert b"".join(found) == b"a" * 1_000_000 + b"b" * 10
    assert max(map(len, found)) <= 256 * 1024


async def _nothing(_call):
    return Reply(200, [])


def route(method, path):
    return Endpoint(method=method, path=path, handler=_nothing, scope="public", tag="t", summary="s")


ROUTER = Router(
    route(*each)
    for each in [
        ("GET", "/v1/{app}/status/{ticket}"),
        ("DELETE", "/v1/{app}/status/{ticket}"),
        ("GET", "/v1/apps/{name}"),
        ("POST", "/v1/runs/redrive"),
        ("GET", "/v1/runs/{id}"),
        ("GET", "/files/{key...}"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "found", "params"),
    [
        ("GET", "/v1/a/status/t", "/v1/{app}/status/{ticket}", {"app": "a", "ticket": "t"}),
        ("HEAD", "/v1/a/status/t", "/v1/{app}/status/{ticket}", {"app": "a", "ticket": "t"}),
        ("GET", "/v1/apps/status", "/v1/apps/{name}", {"name": "status"}),
        ("GET", "/files/a/b//c", "/files/{key...}", {"key": "a/b//c"}),
    ],
)
def test_a_path_leads_to_its_endpoint(method, path, found, params):
    endpoint, given = ROUTER.find(method, path)
    assert (endpoint.path, given) == (found, params)


@pytest.mark.parametrize(
    "path", ["", "/", "/v1", "/v1/a/status", "/v1/a/status/t/x", "/v1//status/t", "/files", "/files/"]
)
def test_a_path_that_leads_nowhere_is_not_found(path):
    with pytest.raises(NotFound):
        ROUTER.find("GET", path)


def test_another_method_is_told_which_there_are():
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTER.find("POST", "/v1/a/status/t")
    assert refused.value.allowed == ("GET", "HEAD", "DELETE")
    with pytest.raises(MethodNotAllowed):
        ROUTER.find("GET", "/v1/runs/redrive")


def test_a_route_is_declared_once_and_its_parts_have_one_name():
    with pytest.raises(ValueError, match="twice"):
        Router([route("GET", "/a"), route("GET", "/a")])
    with pytest.raises(ValueError, match="calls"):
        Router([route("GET", "/a/{x}"), route("GET", "/a/{y}/b")])


class Line:
    """A client that hangs up when told to."""

    def __init__(self):
        self.cut = asyncio.Event()

    async def receive(self):
        await self.cut.wait()
        return {"type": "http.disconnect"}


async def test_work_goes_on_while_its_client_is_there():
    async def work():
        await asyncio.sleep(0)
        return 5

    assert await while_connected(Line().receive, work()) == 5


async def test_work_ends_with_its_client():
    line, ended = Line(), []

    async def work():
        try:
            line.cut.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(HungUp) as gone:
        await while_connected(line.receive, work())
    assert (ended, gone.value.unread) == ([True], None)


async def test_what_failed_is_raised_and_what_came_too_late_is_kept():
    async def failing():
        raise NotFound("x")

    with pytest.raises(NotFound):
        await while_connected(Line().receive, failing())
    line = Line()

    async def late():
        line.cut.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "came too late"

    with pytest.raises(HungUp) as gone:
        await while_connected(line.receive, late())
    assert gone.value.unread == "came too late"


async def test_who_waits_for_the_work_may_be_cancelled():
    ended = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    waiting = asyncio.create_task(while_connected(Line().receive, work()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert ended == [True]
