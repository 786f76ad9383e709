"""Our own signed URLs: one object, one verb, one limit, in ranges if wanted."""

from __future__ import annotations

import pytest
from gateway_stack import PUBLIC, a_stack, exchange

BIG = bytes(range(256)) * 2048  # 512 KiB
KEY = "AppData/echo/results/a b.gz"


async def url(stack, method, key=KEY, **more):
    return (await stack.services.store.url(method, key, 60, **more)).url


async def test_what_was_put_is_got(stack):
    put = await stack.ask("PUT", await url(stack, "PUT"), BIG)
    assert put.status == 200
    got = await stack.ask("GET", await url(stack, "GET"))
    assert (got.status, got.body) == (200, BIG)
    assert got.headers["etag"] == put.headers["etag"]
    assert got.headers["content-disposition"] == "attachment"
    head = await stack.ask("HEAD", await url(stack, "GET"))
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(BIG)))


@pytest.mark.parametrize(
    ("wanted", "status", "span"),
    [
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=10-19", 206, (10, 20)),
        ("bytes=500000-", 206, (500_000, len(BIG))),
        ("bytes=-5", 206, (len(BIG) - 5, len(BIG))),
        ("bytes=-99999999", 206, (0, len(BIG))),
        (f"bytes=5-{10**17}", 206, (5, len(BIG))),
        ("bytes=9-3", 200, (0, len(BIG))),
        ("bytes=0-1,5-6", 200, (0, len(BIG))),
        ("lines=1-2", 200, (0, len(BIG))),
        ("bytes=-", 200, (0, len(BIG))),
    ],
)
async def test_a_range_is_given_as_asked(stack, wanted, status, span):
    await stack.services.store.put(KEY, BIG)
    got = await stack.ask("GET", await url(stack, "GET"), headers={"Range": wanted})
    assert (got.status, got.body) == (status, BIG[slice(*span)])
    if status == 206:
        assert got.headers["content-range"] == f"bytes {span[0]}-{span[1] - 1}/{len(BIG)}"


@pytest.mark.parametrize("wanted", [f"bytes={len(BIG)}-", "bytes=-0"])
async def test_a_range_behind_the_end_is_refused(stack, wanted):
    await stack.services.store.put(KEY, BIG)
    got = await stack.ask("GET", await url(stack, "GET"), headers={"Range": wanted})
    assert (got.status, got.headers["content-range"]) == (416, f"bytes */{len(BIG)}")
    assert got.json()["code"] == "RANGE_NOT_SATISFIABLE"


async def test_a_range_of_another_version_is_not_mixed_in(stack):
    await stack.services.store.put(KEY, BIG)
    asked = {"Range": "bytes=0-9", "If-Range": '"another"'}
    assert (await stack.ask("GET", await url(stack, "GET"), headers=asked)).status == 200


async def test_a_url_permits_one_verb_on_one_object(stack):
    await stack.services.store.put(KEY, b"x")
    await stack.services.store.put("other", b"y")
    get = await url(stack, "GET")
    assert (await stack.ask("PUT", get, b"z")).status == 403
    assert (await stack.ask("GET", get.replace("a%20b.gz", "other"))).status == 403
    assert (await stack.ask("GET", get.replace("sig=", "sig=0"))).status == 403
    assert (await stack.ask("GET", await url(stack, "PUT"))).status == 403
    assert await stack.services.store.get(KEY) == b"x"


async def test_a_url_whose_time_is_over_is_gone(stack):
    expired = (await stack.services.store.url("GET", KEY, -1.0)).url
    assert (await stack.ask("GET", expired)).status == 410


async def test_a_missing_object_is_a_404(stack):
    assert (await stack.ask("GET", await url(stack, "GET", "nothing"))).status == 404


@pytest.mark.parametrize(
    ("permitted", "headers", "status"),
    [
        ({"size": 4}, {}, 200),
        ({"size": 3}, {}, 413),
        ({"size": 5}, {}, 422),
        ({"size": 4}, {"content-length": ""}, 411),
        ({"max_bytes": 4}, {}, 200),
        ({"max_bytes": 3}, {}, 413),
        ({"max_bytes": 3}, {"content-length": ""}, 413),
        ({"max_bytes": 4}, {"content-length": ""}, 200),
    ],
)
async def test_a_put_keeps_to_its_size(stack, permitted, headers, status):
    answer = await stack.ask("PUT", await url(stack, "PUT", **permitted), b"1234", headers)
    assert answer.status == status
    found = await stack.services.store.list("AppData/")
    assert [info.size for info in found] == ([4] if status == 200 else [])


async def test_a_put_that_must_create_never_replaces(stack):
    assert (await stack.ask("PUT", await url(stack, "PUT", create=True), b"1")).status == 201
    assert (await stack.ask("PUT", await url(stack, "PUT", create=True), b"2")).status == 409
    assert await stack.services.store.get(KEY) == b"1"


async def test_a_put_that_breaks_off_leaves_nothing(stack):
    asked = exchange("PUT", await url(stack, "PUT"), [BIG[:1000]], {"content-length": str(len(BIG))})
    asked.breaks = True
    asked.hung_up.set()
    await stack.app(asked.scope, asked.receive, asked.send)
    assert await stack.services.store.list("AppData/") == []


async def test_a_large_body_travels_by_url(tmp_path):
    async with a_stack(tmp_path, inline_max_bytes=10) as stack:
        body = b"x" * 5000
        await stack.infer(body, Prefer="respond-async")
        worker = await stack.worker()
        (held,) = (await worker.lease()).attempts
        assert held.body is None
        assert held.body_url.startswith(PUBLIC)
        assert (await stack.ask("GET", held.body_url)).body == body
