"""What `penstock` offers to programs, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import penstock

SERVER = {"starlette", "uvicorn", "cryptography", "jwt", "psutil", "prometheus_client", "structlog", "sqlite3", "click"}
ROLES = {
    f"penstock.{role}" for role in ("ledger", "queue", "store", "compute", "serving", "placement", "gateway", "cli")
}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return set(shown.split())


def test_the_public_names_are_these():
    assert penstock.__all__ == [
        "AsyncClient",
        "Client",
        "CurrentRun",
        "Handler",
        "InvalidInput",
        "Response",
        "Retry",
        "__version__",
        "current_run",
        "current_runs",
    ]
    assert set(penstock.__all__) <= set(dir(penstock))


@pytest.mark.parametrize("name", penstock.__all__)
def test_every_public_name_can_be_had(name: str):
    assert getattr(penstock, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Handlers'"):
        penstock.Handlers  # noqa: B018


def test_importing_penstock_imports_nothing_else_of_weight():
    assert not modules_after("import penstock") & {"msgspec", "asyncio", "aiohttp", "logging", "penstock.client"}


def test_a_handlers_module_imports_no_http_client():
    assert not modules_after("from penstock import Handler, current_run") & {"aiohttp", "asyncio", "ssl"}


@pytest.mark.parametrize("module", ["penstock.run.worker", "penstock.run.template", "penstock.worker.replica"])
def test_a_worker_imports_no_server_library_and_no_other_role(module: str):
    loaded = modules_after(f"import {module}")
    assert not loaded & (SERVER | ROLES)
