"""The keys of a deployment: kept privately, made once, and tokens that hold only as they were minted."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from penstock.errors import Misconfigured, Unauthenticated
from penstock.identity import WorkerClaims, open_keyring
from penstock.testing.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def keyring(tmp_path, clock):
    return open_keyring(tmp_path / "keys.json", clock=clock)


def test_the_file_is_private_and_survives(tmp_path, keyring, clock):
    file = tmp_path / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = open_keyring(file, clock=clock)
    assert again.verify_worker(keyring.mint_worker("w-a", "a")) == WorkerClaims("w-a", "a")
    assert again.check_dispatch(keyring.dispatch_token("r", 1, "w-a"), "r", 1, "w-a")
    assert again.url_secret == keyring.url_secret


def test_those_who_come_at_once_get_one_keyring(tmp_path, clock):
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: open_keyring(tmp_path / "keys.json", clock=clock), range(16)))
    assert len({ring.url_secret for ring in rings}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_a_worker_token_holds_for_its_time(keyring, clock):
    token = keyring.mint_worker("w-a", "a", ttl_s=60)
    assert keyring.verify_worker(token).uid == "w-a"
    clock.advance(60 + 31)
    with pytest.raises(Unauthenticated, match="expired"):
        keyring.verify_worker(token)


def _forged(keyring, **changes):
    claims = {"iss": "penstock", "aud": "penstock:worker", "sub": "w-a", "app": "a", "exp": 4_000_000_000}
    return {**claims, **changes}


@pytest.mark.parametrize(
    "changes", [{"aud": "penstock:user"}, {"iss": "someone"}, {"sub": None}, {"app": None}, {"exp": None}]
)
def test_a_token_of_another_kind_does_not_hold(keyring, changes):
    claims = {name: value for name, value in _forged(keyring, **changes).items() if value is not None}
    token = jwt.encode(claims, keyring._private, algorithm="EdDSA")
    with pytest.raises(Unauthenticated):
        keyring.verify_worker(token)


def test_an_unsigned_token_does_not_hold(keyring):
    with pytest.raises(Unauthenticated):
        keyring.verify_worker(jwt.encode(_forged(keyring), key=None, algorithm="none"))


def test_a_token_signed_by_the_public_key_as_a_secret_does_not_hold(keyring):
    public = keyring.jwks()["keys"][0]["x"].ljust(32, "=")
    with pytest.raises(Unauthenticated):
        keyring.verify_worker(jwt.encode(_forged(keyring), public, algorithm="HS256"))


@pytest.mark.parametrize("rubbish", ["", "a.b.c", "x" * 10_000, "\N{SNOWMAN}"])
def test_rubbish_does_not_hold(keyring, rubbish):
    with pytest.raises(Unauthenticated):
        keyring.verify_worker(rubbish)
    assert not keyring.check_dispatch(rubbish, "r", 1, "w-a")


def test_a_dispatch_token_is_of_one_attempt_and_one_worker(keyring):
    token = keyring.dispatch_token("r", 2, "w-a")
    assert keyring.check_dispatch(token, "r", 2, "w-a")
    assert not keyring.check_dispatch(token, "r", 3, "w-a")
    assert not keyring.check_dispatch(token, "s", 2, "w-a")
    assert not keyring.check_dispatch(token, "r", 2, "w-b")


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"kid":"k","signing":"","dispatch":"","urls":""}'])
def test_a_broken_file_is_told(tmp_path, clock, content):
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    with pytest.raises(Misconfigured, match="not a keyring"):
        open_keyring(file, clock=clock)
    assert file.read_bytes() == content, "a broken keyring is never overwritten"


def test_a_folder_that_is_a_file_is_told(tmp_path, clock):
    (tmp_path / "state").write_text("")
    with pytest.raises(Misconfigured, match="can't be used"):
        open_keyring(tmp_path / "state" / "keys.json", clock=clock)
