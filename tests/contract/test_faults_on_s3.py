"""What goes wrong between us and a bucket, and what a caller is told of it: against a server that checks everything."""

import asyncio
import os
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest

from penstock.errors import Conflict, Misconfigured, NotFound, Unavailable
from penstock.run.clock import SystemClock
from penstock.store import Put, open_store
from penstock.store._store import Patience
from penstock.testing.clock import ManualClock
from penstock.testing.process import HOST
from penstock.testing.wire import Wire

CREATE = Put(create=True)
PART = 6 << 20


def opened(url, clock=None, **options):
    return open_store(url, clock=clock or SystemClock(), random=os.urandom, **options)


@pytest.fixture
async def store(aws):
    async with opened(aws.url("s3", aws.bucket())) as store:
        yield store


async def sent(signed, data=None, **changed):
    """Send what a signed URL permits; gives the status and the body."""
    headers = {**signed.headers, **changed.pop("headers", {})}
    asked = {"method": signed.method, "url": signed.url, **changed}
    url = aiohttp.client.URL(asked["url"], encoded=True)
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as http,
        http.request(asked["method"], url, data=data, headers=headers) as answer,
    ):
        return answer.status, await answer.read()


# ------------------------------------------------------------------ signed URLs


async def test_a_signed_url_gives_the_object_in_ranges_too(store):
    await store.put("a b/ü+?.gz", b"0123456789")
    signed = await store.url("GET", "a b/ü+?.gz", 60)
    assert await sent(signed) == (200, b"0123456789")
    assert await sent(signed, headers={"Range": "bytes=3-5"}) == (206, b"345")
    assert signed.expires_at == pytest.approx(SystemClock().now() + 60, abs=2)


async def test_a_signed_url_takes_exactly_the_size_that_it_names(store):
    signed = await store.url("PUT", "sized", 60, size=5)
    assert signed.headers == {"Content-Length": "5"}
    assert (await sent(signed, b"123456", headers={"Content-Length": "6"}))[0] == 403
    with pytest.raises(NotFound):
        await store.head("sized")
    assert (await sent(signed, b"12345"))[0] == 200
    assert await store.get("sized") == b"12345"


async def test_a_signed_url_that_creates_never_replaces(store):
    signed = await store.url("PUT", "once", 60, create=True)
    assert (await sent(signed, b"first"))[0] == 200
    assert (await sent(signed, b"second"))[0] == 412
    loose = {"Content-Length": "5", "If-None-Match": ""}
    assert (await sent(signed, b"third", headers=loose))[0] in {400, 403}
    assert await store.get("once") == b"first"


async def test_a_signed_url_is_for_its_verb_and_its_object_only(store):
    await store.put("mine", b"x")
    await store.put("other", b"y")
    signed = await store.url("GET", "mine", 60)
    assert (await sent(signed, method="DELETE"))[0] == 403
    assert (await sent(signed, method="PUT", data=b"z"))[0] == 403
    assert (await sent(signed, url=signed.url.replace("/mine", "/other")))[0] == 403
    fields = dict(parse_qsl(urlsplit(signed.url).query)) | {"X-Amz-Expires": "86400"}
    assert (await sent(signed, url=f"{signed.url.partition('?')[0]}?{urlencode(fields)}"))[0] == 403
    assert await store.get("mine") == b"x"


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
async def test_a_url_of_a_clock_that_is_off_does_not_hold(aws, skew_s):
    clock = ManualClock(SystemClock().now() + skew_s)
    async with opened(aws.url("s3", aws.bucket()), clock) as store:
        await store.put("a", b"x")
        assert (await sent(await store.url("GET", "a", 60)))[0] == 403


async def test_no_url_is_asked_to_hold_longer_than_a_week(store):
    signed = await store.url("GET", "a", 1e9)
    assert signed.expires_at == pytest.approx(SystemClock().now() + 7 * 86400, abs=2)


async def test_a_public_endpoint_is_what_urls_name(aws):
    async with Wire(aws.server.port) as wire:
        public = f"http://{HOST}:{wire.port}"
        async with opened(aws.url("s3", aws.bucket(), public_endpoint=public)) as store:
            await store.put("a", b"x")
            signed = await store.url("GET", "a", 60)
            assert signed.url.startswith(f"{public}/")
            assert await sent(signed) == (200, b"x")


async def test_buckets_in_the_host_name(aws, monkeypatch):
    bucket = aws.bucket()
    host = f"{bucket}.s3.localhost"  # has no address here, so that a proxy is asked for it
    url = aws.url("s3", f"{bucket}/p", endpoint="http://s3.localhost", style="virtual")
    async with Wire(aws.server.port, lambda data: data.replace(f" http://{host}/".encode(), b" /")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{HOST}:{proxy.port}")
        async with opened(url) as store:
            await store.put("a b", b"x")
            assert aws.client("s3").get_object(Bucket=bucket, Key="p/a b")["ContentLength"] == 1
            signed = await store.url("GET", "a b", 60)
            assert signed.url.startswith(f"http://{host}/p/a%20b?")
            directly = signed.url.replace(f"http://{host}", aws.endpoint)
            assert await sent(signed, url=directly, headers={"Host": host}) == (200, b"x")


# ------------------------------------------------------------------ rights


async def test_wrong_keys_are_an_operators_to_mend(aws):
    known, _ = aws.user("full", "s3:*")
    for keys in ((known, "wrong"), ("AKIAUNKNOWN", "wrong")):
        with pytest.raises(Misconfigured, match="key"):
            await opened(aws.url("s3", aws.bucket(), keys=keys)).open()


async def test_a_missing_bucket_is_an_operators_to_mend(aws):
    with pytest.raises(Misconfigured, match="does not exist"):
        await opened(aws.url("s3", "no-such-bucket")).open()


async def test_a_bucket_that_goes_missing_is_no_missing_object(aws):
    bucket = aws.bucket()
    async with opened(aws.url("s3", bucket)) as store:
        aws.client("s3").delete_bucket(Bucket=bucket)
        for call in (store.get("a"), store.put("a", b"x"), store.put("a", parts(PART + 1)), store.list("")):
            with pytest.raises(Misconfigured, match="does not exist"):
                await call


async def test_a_bucket_that_may_only_be_read_says_so(aws):
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="a", Body=b"x")
    async with opened(aws.url("s3", bucket, keys=aws.user("reader", "s3:GetObject", "s3:ListBucket"))) as store:
        assert await store.get("a") == b"x"
        for call in (store.put("b", b"y"), store.put("b", parts(PART + 1)), store.delete("a")):
            with pytest.raises(Misconfigured, match="write"):
                await call
        assert await store.get("a") == b"x"


# ------------------------------------------------------------------ wires and restarts


async def parts(size):
    for start in range(0, size, 1 << 20):
        yield bytes(min(1 << 20, size - start))


@pytest.fixture
async def wire(aws):
    async with Wire(aws.server.port) as wire:
        yield wire


@pytest.fixture
async def wired(aws, wire):
    """Give a store at the other end of the wire, and its bucket."""
    bucket = aws.bucket()
    url = aws.url("s3", bucket, endpoint=f"http://{HOST}:{wire.port}")
    async with opened(url, patience=Patience(tries=4, first_s=0.001)) as store:
        yield store, bucket


@pytest.mark.parametrize("condition", [Put(), CREATE])
async def test_a_put_whose_reply_is_lost_is_done_once(aws, wire, wired, condition):
    store, bucket = wired
    wire.replies_to_cut = 1
    info = await store.put("key", b"mine", condition)
    assert wire.replies_to_cut == 0
    assert aws.client("s3").get_object(Bucket=bucket, Key="key")["Body"].read() == b"mine"
    assert (await store.head("key")).etag == info.etag
    with pytest.raises(Conflict):
        await store.put("key", b"another's", CREATE)


async def test_a_replacement_whose_reply_is_lost_is_ours(wire, wired):
    store, _ = wired
    first = await store.put("key", b"1")
    wire.replies_to_cut = 1
    second = await store.put("key", b"2", Put(match=first.etag))
    assert (await store.head("key")).etag == second.etag
    with pytest.raises(Conflict):
        await store.put("key", b"3", Put(match=first.etag))


@pytest.mark.parametrize("lost", ["requests_to_cut", "replies_to_cut"])
@pytest.mark.parametrize("call", ["get", "head", "delete", "list"])
async def test_what_may_be_asked_again_is_asked_again(wire, wired, lost, call):
    store, _ = wired
    await store.put("key", b"x")
    setattr(wire, lost, 2)
    answer = await getattr(store, call)("key")
    assert getattr(wire, lost) == 0
    assert call != "get" or answer == b"x"


async def test_an_upload_in_parts_that_breaks_leaves_nothing(aws, wire, wired):
    store, bucket = wired
    await store.put("key", b"before")

    async def broken():
        async for part in parts(2 * PART):
            yield part
        wire.replies_to_cut = 1
        yield bytes(PART)

    with pytest.raises(Unavailable):
        await store.put("key", broken())
    assert await store.get("key") == b"before"
    assert "Uploads" not in aws.client("s3").list_multipart_uploads(Bucket=bucket)


async def test_a_stream_that_breaks_says_so(wire, wired):
    store, _ = wired
    await store.put("large", bytes(24 << 20))
    read = 0

    async def read_on():
        nonlocal read
        async for chunk in store.stream("large"):
            read += len(chunk)
            wire.cut()

    with pytest.raises(Unavailable):
        await read_on()
    assert read < 24 << 20


async def test_a_server_that_is_away_is_unavailable_and_comes_back(aws_of_its_own):
    aws = aws_of_its_own
    bucket = aws.bucket()
    async with opened(aws.url("s3", bucket), patience=Patience(tries=2, first_s=0.001)) as store:
        await store.put("a", b"x")
        aws.server.stop()
        for call in (store.get("a"), store.put("a", b"y"), store.put("a", parts(PART + 1)), store.list("")):
            with pytest.raises(Unavailable):
                await call
        aws.server.start()
        aws.client("s3").create_bucket(Bucket=bucket)
        await store.put("a", b"z", CREATE)
        assert await store.get("a") == b"z"


async def test_a_restart_under_load_costs_no_put_that_was_answered(aws_of_its_own):
    """The server forgets all when it is killed, so what is looked at is what was put after it came back."""
    aws = aws_of_its_own
    bucket = aws.bucket()
    answered = set()
    back = asyncio.Event()

    async def write(store, worker):
        for number in range(40):
            try:
                await store.put(f"{worker}/{number}", b"x", CREATE)
            except (Unavailable, Misconfigured):  # it is away, or back and without the bucket
                await asyncio.sleep(0.01)
            else:
                if back.is_set():
                    answered.add(f"{worker}/{number}")

    async with opened(aws.url("s3", bucket), patience=Patience(tries=2, first_s=0.01)) as store:
        writing = [asyncio.create_task(write(store, worker)) for worker in range(4)]
        await asyncio.sleep(0.02)
        aws.server.stop()
        await asyncio.to_thread(aws.server.start)
        aws.client("s3").create_bucket(Bucket=bucket)
        back.set()
        await asyncio.gather(*writing)
        assert answered <= {info.key for info in await store.list("")}
