"""Roles by name, what a process with some of them must share, and the verbs that say so before it starts."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from penstock.cli.session import Session
from penstock.errors import Misconfigured
from penstock.run.program import program
from penstock.run.roles import EVERY_ROLE, Role, read_roles, worker_api
from penstock.run.settings import Settings


def called(tmp_path, *words, **environ):
    environ = {"XDG_STATE_HOME": str(tmp_path), **environ}
    return CliRunner().invoke(program(), words, obj=Session(environ), prog_name="penstock")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_roles_are_read_from_words():
    assert read_roles(["gateway", " controller"]) == EVERY_ROLE
    assert read_roles(["gateway", ""]) == {Role.GATEWAY}


@pytest.mark.parametrize(("names", "said"), [(["gatway"], "no role 'gatway'"), ([""], "needs a role")])
def test_a_role_that_there_is_not_is_refused(names, said):
    with pytest.raises(Misconfigured, match=said):
        read_roles(names)


def test_workers_are_sent_to_the_gateways_address():
    url, alone = "http://127.0.0.1:1", frozenset({Role.CONTROLLER})
    assert worker_api(Settings(), EVERY_ROLE, url) == url
    assert worker_api(Settings(public_url="https://p"), alone, url) == "https://p"
    assert worker_api(Settings(public_url="https://p", worker_api="http://in"), EVERY_ROLE, url) == "http://in"
    with pytest.raises(Misconfigured, match="PENSTOCK__WORKER_API"):
        worker_api(Settings(), alone, url)


def test_config_check_shows_what_is_used_and_what_it_promises(tmp_path):
    answer = called(tmp_path, "config", "check", "-o", "json", PENSTOCK__QUEUE="redis://ada:s3cret@broker:6379/0")
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert found["settings"]["keys"] == f"{tmp_path}/penstock/keys.json"
    assert found["settings"]["queue"] == "redis://ada:***@broker:6379/0"
    assert found["promises"].keys() == {"ledger", "queue", "store", "compute"}
    assert all(found["promises"].values())
    assert "s3cret" not in answer.output
    assert not (tmp_path / "penstock").exists()  # a check makes nothing


def test_config_check_refuses_what_serve_would_refuse(tmp_path):
    answer = called(tmp_path, "config", "check", "--roles", "gateway")
    assert answer.exit_code == 1
    assert "PENSTOCK__LEDGER=postgresql://" in answer.stderr


def test_config_check_prints_a_table(tmp_path):
    answer = called(tmp_path, "config", "check")
    assert answer.exit_code == 0
    assert "SETTING" in answer.stdout
    assert "PROMISES" in answer.stdout


def test_serve_says_that_its_parts_are_for_one_process(tmp_path):
    answer = called(tmp_path, "serve", "--roles", "gateway", "--port", "0")
    assert answer.exit_code == 1
    assert "is for one process, and this one is only gateway" in " ".join(answer.stderr.split())


def test_serve_needs_roles(tmp_path):
    assert called(tmp_path, "serve").exit_code == 2
    assert called(tmp_path, "serve", "--roles", "x").exit_code == 1


def test_a_ledger_in_a_file_needs_no_migration(tmp_path):
    answer = called(tmp_path, "migrate")
    assert (answer.exit_code, answer.stdout) == (0, "")
    assert "was up to date" in " ".join(answer.stderr.split())
