import base64
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import Forbidden, Gone, Invalid, Misconfigured
from penstock.store import FILES, SignedUrl, Signer, Store, open_store
from penstock.store.memory import MemoryStore
from penstock.store.signing import Grant
from penstock.testing.clock import ManualClock, seeded

SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"


def parted(url):
    """Give the key and the query of a URL as a gateway reads them."""
    parts = urlsplit(url)
    assert parts.path.startswith(FILES)
    return unquote(parts.path.removeprefix(FILES)), dict(parse_qsl(parts.query))


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def store(clock):
    signer = Signer("https://p.example/", [SECRET], clock)
    return open_store("memory:", clock=clock, random=seeded(1), signer=signer)


async def test_a_get_url_permits_to_read_for_its_time(store, clock):
    signed = await store.url("GET", "a/b c/ü%#?", 60)
    assert signed.url.startswith("https://p.example/files/a/b%20c/%C3%BC%25%23%3F?")
    assert (signed.method, signed.headers, signed.expires_at) == ("GET", {}, clock.now() + 60)
    key, query = parted(signed.url)
    permission = store.verify("GET", key, query)
    assert (permission.method, permission.key) == ("GET", "a/b c/ü%#?")
    assert (permission.size, permission.max_bytes, permission.create) == (None, None, False)
    assert store.verify("HEAD", key, query) == permission


async def test_a_put_url_carries_its_limits(store):
    signed = await store.url("PUT", "a", 60, size=5, create=True)
    assert signed.headers == {"Content-Length": "5", "If-None-Match": "*"}
    permission = store.verify("PUT", *parted(signed.url))
    assert (permission.size, permission.max_bytes, permission.create) == (5, None, True)
    permission = store.verify("PUT", *parted((await store.url("PUT", "a", 60, max_bytes=10)).url))
    assert (permission.size, permission.max_bytes, permission.create) == (None, 10, False)
    permission = store.verify("PUT", *parted((await store.url("PUT", "a", 60, size=0)).url))
    assert permission.size == 0


async def test_a_url_permits_one_verb(store):
    got, put = parted((await store.url("GET", "a", 60)).url), parted((await store.url("PUT", "a", 60)).url)
    for method, parts in (("PUT", got), ("DELETE", got), ("GET", put), ("HEAD", put), ("POST", put), ("", got)):
        with pytest.raises(Forbidden, match="permits"):
            store.verify(method, *parts)


async def test_a_url_expires(store, clock):
    key, query = parted((await store.url("GET", "a", 60)).url)
    clock.advance(59.9)
    assert store.verify("GET", key, query)
    clock.advance(0.1)
    with pytest.raises(Gone, match="expired"):
        store.verify("GET", key, query)


async def test_what_expired_and_was_tampered_with_does_not_tell_that_it_expired(store, clock):
    _, query = parted((await store.url("GET", "a", 60)).url)
    clock.advance(100)
    with pytest.raises(Forbidden):
        store.verify("GET", "b", query)


TAMPERED = [
    {"exp": "9999999999"},
    {"m": "GET"},
    {"len": "6"},
    {"len": None},
    {"len": "05"},
    {"max": "9"},
    {"new": None},
    {"new": "0"},
    {"sig": None},
    {"sig": ""},
    {"sig": "ü\udc80"},
    {"m": "PUT\n5"},
    {"exp": "\n"},
]


@pytest.mark.parametrize("change", TAMPERED, ids=str)
async def test_no_field_can_be_changed(store, change):
    key, query = parted((await store.url("PUT", "a", 60, size=5, create=True)).url)
    query = {name: value for name, value in (query | change).items() if value is not None}
    with pytest.raises(Forbidden, match="signature"):
        store.verify("PUT", key, query)


@pytest.mark.parametrize("key", ["b", "a/", "A", "", "../a", "a\n", "a\udc80"])
async def test_a_url_is_for_one_object(store, key):
    _, query = parted((await store.url("GET", "a", 60)).url)
    with pytest.raises(Forbidden, match="signature"):
        store.verify("GET", key, query)


async def test_each_bit_of_a_signature_counts(store):
    key, query = parted((await store.url("GET", "a", 60)).url)
    raw = base64.urlsafe_b64decode(query["sig"] + "=")
    assert len(raw) == 32
    for bit in range(256):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        forged = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
        with pytest.raises(Forbidden):
            store.verify("GET", key, query | {"sig": forged})


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.dictionaries(st.sampled_from(["exp", "m", "len", "max", "new", "sig", "x"]), st.text(max_size=20)),
    st.sampled_from(["GET", "PUT", "HEAD"]),
)
def test_rubbish_is_always_forbidden(key, query, method):
    with pytest.raises(Forbidden):
        Signer("https://p.example", [SECRET], ManualClock()).verify(method, key, query)


def test_secrets_rotate_with_overlap(clock):
    old, new = Signer("http://p", [SECRET], clock), Signer("http://p", [OTHER, SECRET], clock)
    only_new = Signer("http://p", [OTHER], clock)
    grant = Grant(method="GET", key="a")
    made_before, made_now = parted(old.url(grant, 60).url), parted(new.url(grant, 60).url)
    assert new.verify("GET", *made_before)
    assert only_new.verify("GET", *made_now)
    for signer, parts in ((only_new, made_before), (old, made_now)):
        with pytest.raises(Forbidden):
            signer.verify("GET", *parts)


@pytest.mark.parametrize("secrets", [[], [b""], [b"short"], [SECRET, b"short"]])
def test_a_weak_secret_is_refused_at_the_start(clock, secrets):
    with pytest.raises(Misconfigured, match="secret"):
        Signer("http://p", secrets, clock)


async def test_without_a_signer_there_are_no_urls(clock):
    store = open_store("memory:", clock=clock, random=seeded(1))
    with pytest.raises(Misconfigured, match="public URL"):
        await store.url("GET", "a", 60)
    with pytest.raises(Misconfigured):
        store.verify("GET", "a", {})


class Signing(MemoryStore):
    """A driver of a vendor that signs."""

    features = MemoryStore.features.__class__(
        durability="none at all, really", survives_restart=False, many_processes=False, signs=True
    )
    able = True

    async def sign(self, method, key, expires_s, *, size=None, create=False):
        headers = {"If-None-Match": "*"} if create else {}
        return SignedUrl(f"https://vendor/{key}?{size}", method, headers, 1.0) if self.able else None


async def test_a_driver_that_signs_is_asked_and_our_urls_are_none_of_its(clock):
    driver = Signing(clock)
    store = Store(driver, clock=clock, random=seeded(1), signer=Signer("https://p", [SECRET], clock))
    signed = await store.url("PUT", "a", 60, size=3, max_bytes=9, create=True)
    assert signed == SignedUrl("https://vendor/a?3", "PUT", {"If-None-Match": "*"}, 1.0)
    ours = Signer("https://p", [SECRET], clock).url(Grant(method="GET", key="a"), 60)
    with pytest.raises(Forbidden):
        store.verify("GET", *parted(ours.url))
    driver.able = False
    with pytest.raises(Misconfigured, match="says that it signs"):
        await store.url("GET", "a", 60)


def test_a_key_that_no_store_holds_is_refused_even_if_it_was_signed(clock):
    signer = Signer("http://p", [SECRET], clock)
    key, query = parted(signer.url(Grant(method="GET", key="x/../../etc/passwd"), 60).url)
    with pytest.raises(Invalid):
        signer.verify("GET", key, query)


@pytest.mark.parametrize("url", ["", "s4:", "ftp://x", "/abs/dir", "C:\\dir"])
def test_an_unknown_scheme_names_the_known_ones(clock, url):
    with pytest.raises(Misconfigured, match="azure, file, gs, memory, s3"):
        open_store(url, clock=clock, random=seeded(1))


@pytest.mark.parametrize("url", ["file:", "file:relative", "file://host/dir", "file:///dir?x=1", "file://"])
def test_a_file_url_names_an_absolute_folder(clock, url):
    with pytest.raises(Misconfigured, match="absolute"):
        open_store(url, clock=clock, random=seeded(1))


async def test_a_file_url_may_be_quoted(clock, tmp_path):
    async with open_store(f"{tmp_path.as_uri()}/with%20space", clock=clock, random=seeded(1)) as store:
        await store.put("a", b"x")
    assert (tmp_path / "with space/a").read_bytes() == b"x"


async def test_another_distribution_may_offer_a_driver(clock, monkeypatch):
    class Offer:
        name = "mine"

        def load(self):
            return lambda url, clock, environ: Signing(clock)

    monkeypatch.setattr(
        "penstock.store._open.entry_points", lambda group: [Offer()] if group == "penstock.store" else []
    )
    assert open_store("mine://x", clock=clock, random=seeded(1)).features.signs
    with pytest.raises(Misconfigured, match="memory, mine, s3"):
        open_store("yours://x", clock=clock, random=seeded(1))


@pytest.mark.parametrize(("url", "extra"), [("s3://b", "s3"), ("gs://b", "gcs"), ("azure://c", "azure")])
def test_a_driver_whose_library_is_missing_says_what_to_install(clock, monkeypatch, url, extra):
    def missing(_):
        raise ModuleNotFoundError("No module named 'obstore'", name="obstore")

    monkeypatch.setattr("penstock.store._open.import_module", missing)
    with pytest.raises(Misconfigured, match=rf"obstore; install penstock\[{extra}\]"):
        open_store(url, clock=clock, random=seeded(1))
