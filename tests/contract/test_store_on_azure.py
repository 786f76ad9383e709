import aiohttp
import pytest
from hypothesis import settings

from penstock.errors import Misconfigured
from penstock.run.clock import SystemClock
from penstock.store import Put
from penstock.store.azure import connect
from penstock.testing.clock import ManualClock
from penstock.testing.suites.store import StoreRig, StoreSuite
from penstock.testing.suites.store_machine import StoreMachine


def opened(url, clock=None):
    return connect(url, clock or SystemClock(), {})


class TestAzureStore(StoreSuite):
    @pytest.fixture
    async def rig(self, azure):
        container = azure.container()
        url, past = azure.url(f"{container}/in/here"), azure.store(container)

        async def peek(key):
            try:
                return bytes(await (await past.get_async(f"in/here/{key}")).bytes_async())
            except FileNotFoundError:
                return None

        async def plant(key, data):
            await past.put_async(f"in/here/{key}", data)

        async def leftovers():
            return []  # blocks that are in no list are Azure's to forget

        driver = opened(url)
        await driver.open()
        yield StoreRig(driver=driver, peek=peek, plant=plant, leftovers=leftovers, another=lambda: opened(url), url=url)
        await driver.close()


class AzureStoreMachine(StoreMachine):
    azure = None

    def make(self):
        self.container = getattr(self, "container", None) or self.azure.container()
        return opened(self.azure.url(self.container))


@pytest.fixture(autouse=True)
def server_of_the_machine(azure):
    AzureStoreMachine.azure = azure


AzureStoreMachine.TestCase.settings = settings(max_examples=5, stateful_step_count=20, deadline=None)
TestAzureStoreMachine = AzureStoreMachine.TestCase


# ------------------------------------------------------------------ what is particular to Azure


@pytest.fixture
async def store(azure):
    driver = opened(azure.url(azure.container()))
    await driver.open()
    yield driver
    await driver.close()


async def sent(signed, data=None, **changed):
    asked = {"method": signed.method, "url": signed.url, **changed}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as http,
        http.request(
            asked["method"], aiohttp.client.URL(asked["url"], encoded=True), data=data, headers=signed.headers
        ) as answer,
    ):
        return answer.status, await answer.read()


async def test_a_signed_url_gives_the_object_and_no_other(store):
    await store.put("a b/ü+?", b"x")
    await store.put("other", b"y")
    signed = await store.sign("GET", "a b/ü+?", 60)
    assert await sent(signed) == (200, b"x")
    assert (await sent(signed, method="DELETE"))[0] == 403
    other = await store.sign("GET", "other", 60)
    assert (await sent(signed, url=f"{other.url.partition('?')[0]}?{signed.url.partition('?')[2]}"))[0] == 403


async def test_a_signed_url_that_creates_never_replaces(store):
    signed = await store.sign("PUT", "once", 60, size=5, create=True)
    assert (await sent(signed, b"first"))[0] == 201
    assert (await sent(signed, b"other"))[0] in {403, 409, 412}
    del signed.headers["If-None-Match"]
    assert (await sent(signed, b"other"))[0] == 403
    assert await store.get("once") == b"first"


async def test_a_url_holds_no_longer_than_it_says(azure):
    container = azure.container()
    driver = opened(azure.url(container), ManualClock(SystemClock().now() - 120))
    await driver.open()
    await driver.put("a", b"x")
    assert (await sent(await driver.sign("GET", "a", 60)))[0] == 403
    await driver.close()


async def test_a_large_upload_keeps_its_condition(store):
    async def parts():
        for _ in range(7):
            yield bytes(1 << 20)

    first = await store.put("large", parts(), Put(create=True))
    assert (await store.put("large", parts(), Put(match=first.etag))).size == 7 << 20


@pytest.mark.parametrize("changed", [{"account_key": "AAAA"}, {"account": "nobody"}])
async def test_wrong_keys_are_an_operators_to_mend(azure, changed):
    with pytest.raises(Misconfigured):
        await opened(azure.url(azure.container(), **changed)).open()


async def test_a_missing_container_is_an_operators_to_mend(azure):
    with pytest.raises(Misconfigured, match="does not exist"):
        await opened(azure.url("no-such-container")).open()


@pytest.mark.parametrize(
    "url", ["azure:", "azure://c?acount=x", "azure://c?account=a&account_key=SECRET%21", "azure://c"]
)
def test_a_url_that_cannot_be_used_is_refused_without_secrets(url):
    with pytest.raises(Misconfigured) as refused:
        opened(url)
    assert "SECRET" not in refused.value.detail
