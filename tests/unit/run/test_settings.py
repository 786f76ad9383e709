"""Settings: from a file, the environment and flags, the later over the earlier; every mistake is named."""

from __future__ import annotations

import pytest

from penstock.errors import Misconfigured
from penstock.run.settings import Settings, masked, read_settings


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_embedded_default_lies_in_one_folder(here):
    settings = read_settings({}, flags={"state": str(here / "s")})
    assert settings.ledger == f"sqlite:///{here}/s/ledger.db"
    assert settings.store == f"file://{here}/s/store"
    assert settings.compute == f"process://{here}/s"
    assert settings.queue == "memory:"


def test_the_state_folder_follows_the_desktop_standard(here):
    assert read_settings({"XDG_STATE_HOME": "/x"}).state == "/x/penstock"
    assert read_settings({"HOME": "/home/ada"}).state == "/home/ada/.local/state/penstock"


def test_flags_win_over_the_environment_and_that_over_the_file(here):
    (here / "penstock.yaml").write_text("port: 1\nhost: ::1\ntick_seconds: 3\n")
    environment = {"PENSTOCK__PORT": "2", "PENSTOCK__TICK_SECONDS": "2.5"}
    settings = read_settings(environment, flags={"port": 3, "host": None})
    assert (settings.port, settings.tick_seconds, settings.host) == (3, 2.5, "::1")


def test_sql_queue_gets_a_file_of_its_own(here):
    assert read_settings({"PENSTOCK__QUEUE": "sql:"}, flags={"state": "/s"}).queue == "sql:////s/queue.db"


@pytest.mark.parametrize(
    ("environment", "text", "said"),
    [
        ({"PENSTOCK__PROT": "1"}, "", "did you mean 'port'"),
        ({"PENSTOCK__PORT": "eighty"}, "", "a setting is wrong"),
        ({}, "quueue: x", "did you mean 'queue'"),
        ({}, "- a", "must hold a mapping"),
        ({}, "a: [", "can't be read"),
        ({}, "zzz: 1", "known are"),
    ],
)
def test_a_mistake_is_named(here, environment, text, said):
    (here / "penstock.yaml").write_text(text)
    with pytest.raises(Misconfigured, match=said):
        read_settings(environment)


def test_a_file_that_was_named_must_be_there(here):
    with pytest.raises(Misconfigured, match="no settings file"):
        read_settings({}, file=here / "missing.yaml")


def test_passwords_are_masked():
    shown = masked(Settings(ledger="postgresql://ada:s3cret@db/penstock", store="memory:"))
    assert shown["ledger"] == "postgresql://ada:***@db/penstock"
    assert shown["store"] == "memory:"


def test_keys_in_the_query_of_a_url_are_masked():
    shown = masked(Settings(store="s3://b/p?region=x&secret_access_key=abc/+&session_token=def&style=path"))
    assert shown["store"] == "s3://b/p?region=x&secret_access_key=***&session_token=***&style=path"
