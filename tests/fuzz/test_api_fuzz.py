"""The API keeps to its own description, whatever it is sent: schemathesis on a live platform with the echo app.

`PENSTOCK_FUZZ_SECONDS` gives it more time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from penstock import manifest
from penstock.ledger.commands import AddWorker
from penstock.model.fleet import Worker, WorkerState
from penstock.model.run import Run
from penstock.run.platform import Platform, running
from penstock.run.settings import read_settings
from penstock.serving import Submission

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("PENSTOCK_FUZZ_SECONDS", "40"))
ECHO = HERE.parents[1] / "examples" / "echo" / "app.yaml"
# Streams that go on for as long as someone listens; tests of their own look at them.
STREAMS = ("/v1/apps/{name}/logs", "/v1/runs/{id}/events")


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """A running platform with the echo app."""
    flags = {"state": str(tmp_path / "state"), "port": 0, "t_sync_seconds": 0.1, "log_level": "error"}
    settings = read_settings({"XDG_STATE_HOME": str(tmp_path)}, flags=flags)
    hurry = asyncio.Event()
    hurry.set()
    async with running(settings, environ={"PATH": os.environ["PATH"]}, hurry=hurry) as platform:
        (app,) = manifest.parse(ECHO.read_text())
        await platform.catalog.apply(manifest.resolve(app, str(ECHO.parent)))
        yield platform


async def fuzz(platform: Platform, run: Run, folder: Path, *options: str) -> str:
    """Let schemathesis loose on the platform; gives its report. Fails with it when a check failed."""
    command = [str(Path(sys.executable).with_name("st")), "--config-file", str(HERE / "schemathesis.toml"), "run"]
    left_out = [part for path in STREAMS for part in ("--exclude-path", path)]
    process = await asyncio.create_subprocess_exec(
        *command,
        f"{platform.url}/openapi.json",
        *("--no-color", "--max-time", str(SECONDS), *left_out, *options),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE), "PENSTOCK_FUZZ_RUN": run.id, "PENSTOCK_FUZZ_TICKET": run.key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report = (await process.communicate())[0].decode(errors="replace")
    assert process.returncode == 0, report
    return report


@pytest.mark.timeout(SECONDS + 60)
async def test_the_api_keeps_to_its_description(platform: Platform, tmp_path: Path) -> None:
    """For whoever comes with a worker's token, too."""
    uid = "w-echo-fuzzed"
    row = Worker(uid=uid, app="echo", spec_generation=1, state=WorkerState.STARTING)
    await platform.ledger.add_worker(AddWorker(worker=row))
    token = platform.keyring.mint_worker(uid, "echo")
    known = (await platform.intake.accept(Submission(tenant="default", app="echo", body=b"known"))).run
    report = await fuzz(platform, known, tmp_path, "--header", f"Authorization: Bearer {token}")
    assert "Test cases:" in report
    async with aiohttp.ClientSession() as http, http.get(f"{platform.url}/health/ready") as reply:
        assert reply.status == 200
    assert platform.intake.lost_hints == 0


async def test_without_a_workers_token_every_internal_route_is_closed(platform: Platform) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{platform.url}/openapi.json") as reply:
            described = await reply.json()
        routes = [
            (method, path)
            for path, methods in described["paths"].items()
            for method, operation in methods.items()
            if operation["security"] == [{"worker": []}]
        ]
        assert {path for _, path in routes} == {path for path in described["paths"] if path.startswith("/internal/")}
        for method, path in routes:
            for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
                async with http.request(method, platform.url + path, json={}, headers=headers) as reply:
                    assert reply.status == 401, (path, await reply.text())
                    assert reply.headers["www-authenticate"] == "Bearer"
                    assert (await reply.json(content_type="application/problem+json"))["code"] == "UNAUTHENTICATED"


async def test_every_route_is_described_with_its_scope_and_its_refusals(platform: Platform) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{platform.url}/openapi.json") as reply:
        described = await reply.json()
    assert described["openapi"] == "3.1.0"
    assert described["servers"] == [{"url": platform.url}]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["x-scope"], path
            assert operation["summary"], path
            assert "default" in operation["responses"]
            refusals = [status for status in operation["responses"] if status[0] in "45"]
            assert refusals, (method, path)
            for status in refusals:
                kinds = operation["responses"][status].get("content", {})
                assert kinds, (method, path, status)
