"""What runs in a user's model image, and the thin client, load nothing of the server."""

import subprocess
import sys

import pytest

from sources import project

SERVER_ROLES = ("ledger", "queue", "store", "compute", "serving", "placement", "gateway", "cli", "identity")
BEGIN = "import sys; before = set(sys.modules); "
END = "; print(*sorted({name for name in sys.modules if name not in before}))"


def loaded_by(statement):
    done = subprocess.run([sys.executable, "-c", BEGIN + statement + END], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def server_libraries():
    """Give the import names of the server's extra: none of them is on a worker's image."""
    spelled = {"prometheus-client": "prometheus_client", "pyjwt": "jwt"}
    wanted = project()["project"]["optional-dependencies"]["server"]
    names = [requirement.partition(";")[0].partition(">=")[0].strip() for requirement in wanted]
    return {spelled.get(name, name) for name in names}


@pytest.mark.parametrize(
    "statement",
    [
        "import penstock",
        "from penstock import Handler, InvalidInput, Response, Retry",
        "import penstock.client",
        "import penstock.run.worker",
        "import penstock.run.template",
    ],
)
def test_no_server_module_is_loaded(statement):
    found = loaded_by(statement)
    assert [name for name in found if name.startswith("penstock.") and name.split(".")[1] in SERVER_ROLES] == []
    assert server_libraries() & {name.partition(".")[0] for name in found} == set()


def test_a_handler_is_imported_without_a_client_or_a_parser_of_yaml():
    found = {name.partition(".")[0] for name in loaded_by("from penstock import Handler")}
    assert found & {"aiohttp", "click", "rich", "ruamel"} == set()
