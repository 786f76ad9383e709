import json

import aiohttp
import pytest
from hypothesis import settings

from penstock.errors import Conflict, Misconfigured
from penstock.run.clock import SystemClock
from penstock.store import Put
from penstock.store.gcs import connect
from penstock.testing.clock import ManualClock
from penstock.testing.gcs_double import make_key_file
from penstock.testing.suites.store import StoreRig, StoreSuite
from penstock.testing.suites.store_machine import StoreMachine


def opened(url, clock=None):
    return connect(url, clock or SystemClock(), {})


@pytest.fixture
def bucket(google):
    return google.bucket()


class TestGcsStore(StoreSuite):
    @pytest.fixture
    async def rig(self, google, bucket):
        url = google.url(f"{bucket}/in/here")

        async def peek(key):
            return google.ask("GET", f"{bucket}/in/here/{key}")

        async def plant(key, data):
            google.ask("PUT", f"{bucket}/in/here/{key}", data)

        async def leftovers():
            return google.uploads(bucket)

        driver = opened(url)
        await driver.open()
        yield StoreRig(driver=driver, peek=peek, plant=plant, leftovers=leftovers, another=lambda: opened(url), url=url)
        await driver.close()


class GcsStoreMachine(StoreMachine):
    google = None

    def make(self):
        self.bucket = getattr(self, "bucket", None) or self.google.bucket()
        return opened(self.google.url(self.bucket))


@pytest.fixture(autouse=True)
def server_of_the_machine(google):
    GcsStoreMachine.google = google


GcsStoreMachine.TestCase.settings = settings(max_examples=4, stateful_step_count=15, deadline=None)
TestGcsStoreMachine = GcsStoreMachine.TestCase


# ------------------------------------------------------------------ what is particular to Google


@pytest.fixture
async def store(google, bucket):
    driver = opened(google.url(bucket))
    await driver.open()
    yield driver
    await driver.close()


async def sent(signed, data=None, headers=None, **changed):
    asked = {"method": signed.method, "url": signed.url, **changed}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as http,
        http.request(
            asked["method"],
            aiohttp.client.URL(asked["url"], encoded=True),
            data=data,
            headers=signed.headers if headers is None else headers,
        ) as answer,
    ):
        return answer.status, await answer.read()


async def test_a_signed_url_gives_the_object_and_no_other(store):
    await store.put("a b/ü+?", b"x")
    await store.put("other", b"y")
    signed = await store.sign("GET", "a b/ü+?", 60)
    assert await sent(signed) == (200, b"x")
    assert (await sent(signed, method="DELETE"))[0] == 403
    assert (await sent(signed, url=signed.url.replace("/a%20b/%C3%BC%2B%3F", "/other")))[0] == 403
    assert (await sent(signed, url=signed.url.replace("Expires=60", "Expires=61")))[0] == 403


async def test_a_signed_url_is_held_to_its_size_and_to_creation(store):
    signed = await store.sign("PUT", "once", 60, size=5, create=True)
    assert (await sent(signed, b"longer", headers={**signed.headers, "Content-Length": "6"}))[0] == 400
    assert (await sent(signed, b"first"))[0] == 200
    assert (await sent(signed, b"other"))[0] == 412
    without = {"x-goog-content-length-range": "5,5"}
    assert (await sent(signed, b"other", headers=without))[0] == 403
    assert await store.get("once") == b"first"


@pytest.mark.parametrize("skew_s", [-120.0, 7200.0])
async def test_a_url_of_a_clock_that_is_off_does_not_hold(google, bucket, skew_s):
    driver = opened(google.url(bucket), ManualClock(SystemClock().now() + skew_s))
    await driver.open()
    await driver.put("a", b"x")
    assert (await sent(await driver.sign("GET", "a", 60)))[0] == 400
    await driver.close()


async def parts(count=7):
    for _ in range(count):
        yield bytes((1 << 20) + 1)


async def test_a_large_upload_keeps_its_condition(google, bucket, store):
    first = await store.put("large", parts(), Put(create=True))
    second = await store.put("large", parts(13), Put(match=first.etag))
    for condition in (Put(create=True), Put(match=first.etag)):
        with pytest.raises(Conflict):
            await store.put("large", parts(), condition)
    assert (await store.head("large")).size == second.size == 13 * ((1 << 20) + 1)
    assert google.uploads(bucket) == []


async def test_a_condition_holds_to_the_end_of_an_upload(google, bucket, store):
    async def overtaken():
        async for part in parts():
            yield part
        google.ask("PUT", f"{bucket}/large", b"another's")

    with pytest.raises(Conflict):
        await store.put("large", overtaken(), Put(create=True))
    assert await store.get("large") == b"another's"
    assert google.uploads(bucket) == []


async def test_another_accounts_key_is_an_operators_to_mend(google, bucket, tmp_path):
    stranger = make_key_file(tmp_path / "key.json")
    with pytest.raises(Misconfigured, match="keys"):
        await opened(google.url(bucket, credentials=stranger)).open()


async def test_a_missing_bucket_is_an_operators_to_mend(google):
    with pytest.raises(Misconfigured, match="does not exist"):
        await opened(google.url("no-such-bucket")).open()


def test_a_key_file_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(Misconfigured, match="GOOGLE_APPLICATION_CREDENTIALS"):
        opened("gs://bucket")
    with pytest.raises(Misconfigured, match=r"missing\.json"):
        connect("gs://bucket", ManualClock(), {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "missing.json")})
    path = tmp_path / "key.json"
    for text in ("{", json.dumps({"type": "authorized_user"})):
        path.write_text(text)
        with pytest.raises(Misconfigured, match=r"key\.json"):
            opened(f"gs://bucket?credentials={path}")
    path.write_text(json.dumps({"client_email": "a@b", "private_key": "rubbish"}))
    with pytest.raises(Misconfigured, match="private_key"):
        opened(f"gs://bucket?credentials={path}")


@pytest.mark.parametrize("url", ["gs:", "gs:///p", "gs://u@b", "gs://b?x=1"])
def test_a_url_that_names_no_bucket_is_refused(url):
    with pytest.raises(Misconfigured, match="gs://bucket"):
        opened(url)
