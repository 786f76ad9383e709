"""Contexts: kept in a file that only its owner reads, and a credential goes to no server but its own."""

import stat

import pytest

from penstock.errors import Misconfigured


def asked(penstock, **options):
    session = penstock.session()
    session.options |= options
    return session.target()


@pytest.fixture
def contexts(penstock):
    """Give the program with two contexts, of which `prod` is in use."""
    penstock("config", "set-context", "prod", "--api", "https://prod.example/", "--api-key", "k1")
    penstock("config", "set-context", "lab", "--api", "http://lab:9000", "--token", "t1")
    return penstock


def test_nothing_said_asks_this_machine(penstock):
    assert asked(penstock) == ("http://127.0.0.1:8080", "", "", "the default")


def test_options_win_over_variables_and_those_over_the_context(contexts):
    assert asked(contexts)[:3] == ("https://prod.example", "k1", "")
    contexts.environ |= {"PENSTOCK_API": "http://variable:1", "PENSTOCK_API_KEY": "k2"}
    assert asked(contexts) == ("http://variable:1", "k2", "", "PENSTOCK_API")
    assert asked(contexts, api="http://option:1", api_key="k3") == ("http://option:1", "k3", "", "--api")


def test_another_server_does_not_get_the_contexts_credential(contexts):
    assert asked(contexts, api="http://elsewhere:1")[:3] == ("http://elsewhere:1", "", "")
    assert asked(contexts, api="https://prod.example")[:3] == ("https://prod.example", "k1", "")


def test_a_context_can_be_named_for_one_call(contexts):
    assert asked(contexts, context="lab")[:3] == ("http://lab:9000", "", "t1")
    done = contexts("get", "apps", "--context", "nope")
    assert done.exit_code == 3
    assert "known: lab, prod" in done.stderr


def test_a_key_in_a_variable_stays_out_of_the_file(penstock, tmp_path):
    penstock("config", "set-context", "prod", "--api", "https://prod.example", "--api-key-env", "PROD_KEY")
    with pytest.raises(Misconfigured, match="PROD_KEY, which is not set"):
        asked(penstock)
    penstock.environ["PROD_KEY"] = "secret"
    assert asked(penstock).api_key == "secret"
    assert "secret" not in (tmp_path / ".config/penstock/config.yaml").read_text()


def test_the_file_is_readable_by_its_owner_only(contexts, tmp_path):
    file = tmp_path / ".config/penstock/config.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["config.yaml"]


def test_the_verbs(contexts):
    assert contexts.out("config", "current-context") == "prod\n"
    assert contexts.out("config", "get-contexts").splitlines() == [
        "CURRENT   NAME   API                     CREDENTIAL",
        "          lab    http://lab:9000         token",
        "*         prod   https://prod.example/   key",
    ]
    contexts.out("config", "use-context", "lab")
    assert contexts.out("config", "current-context") == "lab\n"
    contexts.out("config", "delete-context", "lab")
    assert contexts("config", "current-context").exit_code == 1
    assert contexts("config", "use-context", "lab").exit_code == 3


def test_view_masks_credentials_unless_told_not_to(contexts):
    assert "k1" not in contexts.out("config", "view")
    assert "api_key: '***'" in contexts.out("config", "view")
    assert "api_key: k1" in contexts.out("config", "view", "--raw")


def test_a_context_is_changed_field_by_field(contexts):
    contexts.out("config", "set-context", "prod", "--api-key-env", "PROD_KEY")
    shown = contexts.out("config", "view", "--raw")
    assert "https://prod.example/" in shown
    assert "k1" not in shown


@pytest.mark.parametrize("text", ["contexts: [1]", "contexts: {a: {api: x, colour: red}}", "{", "\x00"])
def test_a_file_that_makes_no_sense_is_named(penstock, tmp_path, text):
    file = tmp_path / ".config/penstock/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    done = penstock("config", "view")
    assert done.exit_code == 1
    assert str(file) in done.stderr


@pytest.mark.parametrize("api", ["localhost:8080", "ftp://x", "http://", "http://x:99999"])
def test_an_address_that_is_none(penstock, api):
    done = penstock("get", "apps", "--api", api)
    assert done.exit_code == 1
    assert "is no address; write it as http://127.0.0.1:8080" in done.stderr
