"""Real processes in bad times: the platform killed, templates that fail, pids given out again, programs that can't start."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from penstock.compute import Order, Phase, open_compute
from penstock.compute.process import Options, _driver, _start, _templates
from penstock.compute.process._kin import find
from penstock.compute.process._records import Records
from penstock.errors import Misconfigured, Unavailable
from penstock.model.app import App, Worker
from penstock.testing.clock import ManualClock, seeded
from penstock.testing.suites.compute import ComputeSuite

PROGRAMS = Path(__file__).parents[1] / "unit/compute/programs"
sys.path.append(str(PROGRAMS))

from staging import ProcessStage, runs  # noqa: E402 # it lies beside the programs it runs

pytestmark = pytest.mark.live


class Words(ComputeSuite):
    """The words of the suite's cases, without the cases."""

    __test__ = False


words = Words()


@pytest.fixture
async def opened():
    """Give a function that opens a stage's driver; at the end nothing of it runs."""
    stages = []

    async def opened(stage):
        compute = stage.compute()
        await compute.open()
        stages.append((stage, compute))
        return compute

    yield opened
    for _, compute in stages:
        await compute.close()
    for stage, _ in stages:
        async with stage.compute() as again:
            for sighting in await again.list():
                await again.remove(sighting.uid)


async def until_gone(stage, pid):
    async def gone():
        return not runs(pid)

    await stage.until(gone, f"process {pid} goes")


def start(*command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def proc(pid, name):
    return Path("/proc", str(pid), name)


def record_of(stage, uid):
    return stage.folder / "state" / "workers" / f"{uid}.json"


# -------------------------------------------------------------------- the platform dies


async def test_kill_9_of_the_platform_leaves_its_workers_to_the_next(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True)
    uids = ["w-1", "w-2", "w-3"]
    with start(sys.executable, PROGRAMS / "platform_process.py", tmp_path, *uids) as platform:
        assert platform.stdout.readline() == b"here they are\n"
        pids = [stage.pid(uid) for uid in uids]
        (template,) = stage.templates()
        platform.kill()
    await until_gone(stage, template)
    os.kill(pids[2], signal.SIGKILL)  # while nobody looks

    compute = await opened(stage)
    seen = await words.seen(compute)
    assert [seen[uid].pid for uid in uids] == pids
    assert [seen[uid].phase for uid in ("w-1", "w-2")] == [Phase.RUNNING] * 2
    assert (await words.ended(stage, compute, "w-3")).exit_code is None

    changes = compute.changes()
    began = time.monotonic()
    os.kill(pids[0], signal.SIGKILL)
    async with asyncio.timeout(5):
        end = await anext(changes)
    assert (end.uid, end.phase, end.exit_code) == ("w-1", Phase.ENDED, None)
    assert time.monotonic() - began < 1.0
    await compute.remove("w-2")
    assert not runs(pids[1])


@pytest.mark.parametrize("fork", [False, True])
async def test_a_crash_between_the_start_and_its_record_loses_no_worker(tmp_path, opened, fork):
    stage = ProcessStage(tmp_path, fork=fork)
    async with stage.compute() as compute:
        await words.start(stage, compute, "w-1")
    path = record_of(stage, "w-1")
    record = json.loads(path.read_bytes())
    del record["kin"], record["started_at"]
    path.write_text(json.dumps(record))  # as it was before the start

    compute = await opened(stage)
    seen = (await words.seen(compute))["w-1"]
    assert (seen.phase, seen.pid) == (Phase.RUNNING, stage.pid("w-1"))


async def test_another_deployments_worker_of_the_same_name_is_not_adopted(tmp_path, opened):
    theirs, ours = (ProcessStage(tmp_path / name, fork=False) for name in ("theirs", "ours"))
    for stage in (theirs, ours):
        stage.folder.mkdir()
    compute = await opened(theirs)
    await words.start(theirs, compute, "w-1")
    async with ours.compute():
        pass
    log = tmp_path / "ours/state/logs/digits/w-1.log"
    log.parent.mkdir()
    log.touch()
    record = {"uid": "w-1", "app": "digits", "generation": 1, "log": str(log)}
    record_of(ours, "w-1").write_text(json.dumps(record))
    seen = (await words.seen(await opened(ours)))["w-1"]
    assert (seen.phase, seen.pid) == (Phase.ENDED, None)
    assert await theirs.lives("w-1")


async def test_a_worker_that_never_came_up_is_told_as_ended(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_IMPORT_S": "60"})
    async with stage.compute() as compute:
        await compute.create(stage.order("w-1"))
        assert (await words.seen(compute))["w-1"].phase is Phase.PENDING
    seen = (await words.seen(await opened(stage)))["w-1"]
    assert (seen.phase, seen.exit_code) == (Phase.ENDED, None)


async def test_a_torn_record_costs_nobody_else(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False)
    async with stage.compute() as compute:
        await words.start(stage, compute, "w-1")
    record_of(stage, "w-2").write_text('{"uid": "w-2", "ap')
    record_of(stage, "w-3").with_suffix(".new").write_text("{}")
    assert list(await words.seen(await opened(stage))) == ["w-1"]
    assert [path.name for path in record_of(stage, "w-1").parent.iterdir()] == ["w-1.json"]


async def test_two_platforms_never_share_a_folder(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False)
    await opened(stage)
    with pytest.raises(Misconfigured, match="another process uses"):
        await stage.compute().open()


# -------------------------------------------------------------------- whose process it is


async def test_a_pid_that_was_given_out_again_is_never_touched(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False)
    async with stage.compute() as compute:
        await words.start(stage, compute, "w-1")
        await stage.exit("w-1", 0)
        await words.ended(stage, compute, "w-1")
    with start("sleep", "60") as stranger:
        path = record_of(stage, "w-1")
        record = json.loads(path.read_bytes())
        record["kin"]["pid"] = stranger.pid  # born at another time
        for field in ("ended_at", "exit_code"):
            record.pop(field, None)
        path.write_text(json.dumps(record))

        compute = await opened(stage)
        assert (await words.seen(compute))["w-1"].phase is Phase.ENDED
        await compute.drain("w-1")
        await compute.remove("w-1")
        assert runs(stranger.pid)
        stranger.kill()


async def test_remove_ends_what_a_worker_started_too(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    child = await with_child(stage, "w-1")
    await stage.deafen("w-1")
    await compute.remove("w-1", grace_s=0.1)
    await until_gone(stage, child)


@pytest.mark.parametrize("fork", [False, True])
async def test_what_a_dead_worker_started_dies_with_it(tmp_path, opened, fork):
    stage = ProcessStage(tmp_path, fork=fork)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    child = await with_child(stage, "w-1")
    await stage.kill("w-1")
    assert (await words.ended(stage, compute, "w-1")).exit_code == -9
    await until_gone(stage, child)


async def test_a_worker_that_the_system_will_not_let_go_is_told_of(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(_driver, "end_session", lambda _kin: 0)
    monkeypatch.setattr(_driver, "KILLED_S", 0.1)
    stage = ProcessStage(tmp_path, fork=False)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    await stage.deafen("w-1")
    with pytest.raises(Unavailable, match="the system has not let it go"):
        await compute.remove("w-1")
    monkeypatch.undo()


async def test_drain_signals_the_worker_alone(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    child = await with_child(stage, "w-1")
    await stage.deafen("w-1")
    await compute.drain("w-1")
    await stage.say("w-1", "still here")
    assert runs(child)


async def with_child(stage, uid):
    await stage._tell(uid, "child")
    return int((stage.folder / f"{uid}.child").read_text())


# -------------------------------------------------------------------- templates


async def test_a_warm_start_takes_milliseconds(tmp_path, opened):
    """The goal is 10 ms on a quiet machine; the bar here leaves room for a busy one."""
    stage = ProcessStage(tmp_path, fork=True)
    compute = await opened(stage)
    await words.start(stage, compute, "w-first")
    took = []
    for number in range(9):
        began = time.perf_counter()
        await compute.create(stage.order(f"w-{number}"))
        took.append(time.perf_counter() - began)
        assert (await words.seen(compute))[f"w-{number}"].phase is Phase.RUNNING
    assert sorted(took)[4] < 0.1


async def test_a_storm_of_creates_shares_one_template(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True)
    compute = await opened(stage)
    uids = [f"w-{number}" for number in range(50)]
    await asyncio.gather(*(compute.create(stage.order(uid)) for uid in uids))
    for uid in uids:
        await words.running(stage, compute, uid)
    assert len(stage.templates()) == 1
    assert [await stage.starts(uid) for uid in uids] == [1] * 50
    await asyncio.gather(*(compute.remove(uid, 5.0) for uid in uids))
    assert {sighting.exit_code for sighting in await compute.list()} == {0}


async def test_prepare_warms_the_template_ahead(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True)
    compute = await opened(stage)
    await compute.prepare(stage.app, 1)
    (template,) = await warm(stage, 1)
    await compute.create(stage.order("w-1"))
    assert (await words.seen(compute))["w-1"].phase is Phase.RUNNING  # it did not have to wait
    assert parent((await words.seen(compute))["w-1"].pid) == template


async def test_a_killed_template_takes_no_worker_along(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    os.kill(stage.templates()[0], signal.SIGKILL)
    await until_gone(stage, stage.templates()[0])
    assert await stage.lives("w-1")
    await stage.exit("w-1", 4)
    assert (await words.ended(stage, compute, "w-1")).exit_code in {4, None}  # only its parent could know
    await words.start(stage, compute, "w-2")
    assert len(stage.templates()) == 2


@pytest.mark.parametrize("mode", ["refuse", "crash", "babble"])
async def test_where_forking_fails_workers_start_fresh(tmp_path, opened, mode):
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_TEMPLATE": mode})
    compute = await opened(stage)
    for uid in ("w-1", "w-2"):
        await words.start(stage, compute, uid)
        assert parent(stage.pid(uid)) == os.getpid()
        assert await stage.starts(uid) == 1


@pytest.mark.parametrize("mode", ["deaf", "linger"])
async def test_a_stuck_template_is_ended_and_holds_nobody_up(tmp_path, opened, mode, monkeypatch):
    monkeypatch.setattr(_templates, "FORK_S", 0.2)
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_TEMPLATE": mode})
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    assert parent(stage.pid("w-1")) == os.getpid()
    assert await stage.starts("w-1") == 1


async def test_a_template_that_talks_of_strangers_is_not_believed(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_TEMPLATE": "confused"})
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    assert parent(stage.pid("w-1")) == stage.templates()[0]
    assert (await words.seen(compute))["w-1"].pid == stage.pid("w-1")
    await stage.kill("w-1")
    assert (await words.ended(stage, compute, "w-1")).exit_code == -9


async def test_a_template_that_will_not_go_is_killed(tmp_path):
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_TEMPLATE": "linger"})
    async with stage.compute() as compute:
        await compute.prepare(stage.app, 1)
        (template,) = compute._driver._templates._lives
        assert (await template.ready).ok
        pid = template._kin.pid
    assert not runs(pid)


async def test_a_template_that_can_not_start_is_done_without(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True, template=("/no/such/program",))
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    assert parent(stage.pid("w-1")) == os.getpid()


@pytest.mark.parametrize("how", [{"template": ()}, {"handler": ""}, {"fork_server": False}, {"type": "sidecar"}])
async def test_who_can_not_be_forked_needs_no_template(tmp_path, opened, how):
    stage = ProcessStage(tmp_path, fork=True, **({"template": ()} if "template" in how else {}))
    if "handler" in how:
        stage.app = msgspec.structs.replace(stage.app, handler="")
    elif "template" not in how:
        stage.app = msgspec.structs.replace(stage.app, worker=msgspec.convert(_camel(how), Worker))
    compute = await opened(stage)
    await compute.prepare(stage.app, 1)
    await words.start(stage, compute, "w-1")
    assert stage.templates() == []


def _camel(how):
    return {"forkServer" if name == "fork_server" else name: value for name, value in how.items()}


async def test_a_template_that_dies_after_the_fork_leads_to_no_second_worker(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_TEMPLATE": "die"})
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    assert await stage.starts("w-1") == 1
    assert (await words.seen(compute))["w-1"].pid == stage.pid("w-1")


async def test_a_changed_handler_gets_a_new_template(tmp_path, opened):
    """The old one stays as long as a worker of it lives, for nobody else can learn how that worker ends."""
    handler = tmp_path / "digits.py"
    handler.write_text("one")
    stage = ProcessStage(tmp_path, fork=True)
    stage.app = msgspec.structs.replace(stage.app, handler=f"{handler}:Digits")
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    handler.write_text("another")
    await words.start(stage, compute, "w-2")
    first, second = stage.templates()
    assert runs(first)
    await stage.exit("w-1", 9)
    assert (await words.ended(stage, compute, "w-1")).exit_code == 9
    await until_gone(stage, first)
    assert runs(second)
    await compute.create(Order(uid="w-3", app=stage.app, spec_generation=2, env={}))
    await words.running(stage, compute, "w-3")
    assert len(stage.templates()) == 3


async def test_an_idle_template_is_dropped(tmp_path, opened):
    clock = ManualClock()
    stage = ProcessStage(tmp_path, fork=True, clock=clock, template_idle_s=600.0)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    (template,) = stage.templates()
    clock.advance(10_000)
    await compute._driver.tend()
    assert runs(template), "it has a worker"
    await compute.remove("w-1", 5.0)
    clock.advance(599)
    await compute._driver.tend()
    assert runs(template)
    clock.advance(2)
    await compute._driver.tend()
    await until_gone(stage, template)


async def test_a_worker_that_waits_for_its_template_can_be_removed_or_drained(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_IMPORT_S": "60"})
    compute = await opened(stage)
    for uid in ("w-1", "w-2"):
        await compute.create(stage.order(uid))
    began = time.monotonic()
    await compute.remove("w-1")
    await compute.drain("w-2")
    seen = await words.seen(compute)
    assert {(sighting.phase, sighting.exit_code) for sighting in seen.values()} == {(Phase.ENDED, 0)}
    await compute.close()
    assert time.monotonic() - began < 5.0, "a template that imports must not hold anybody up"


async def test_the_driver_takes_its_templates_along(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    await compute.close()
    assert not runs(stage.templates()[0])
    assert await stage.lives("w-1")


async def warm(stage, count):
    async def ready():
        return len(stage.templates()) == count

    await stage.until(ready, "a template is warm")
    return stage.templates()


def parent(pid):
    return int(proc(pid, "stat").read_text().rpartition(")")[2].split()[1])


# -------------------------------------------------------------------- what workers get, and leave


async def test_nobody_is_given_what_is_not_theirs(tmp_path, opened):
    shell = os.environ | {"AWS_SECRET_ACCESS_KEY": "s3cret", "LC_TIME": "C", "CUDA_HOME": "/opt/cuda"}
    stage = ProcessStage(tmp_path, fork=True, base_env=shell)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    env = await stage.env("w-1")
    assert "AWS_SECRET_ACCESS_KEY" not in env
    assert (env["LC_TIME"], env["CUDA_HOME"], env["PATH"]) == ("C", "/opt/cuda", os.environ["PATH"])
    assert env["PENSTOCK_WORKER_UID"] == "w-1"
    assert json.loads(env["PENSTOCK_APP"])["name"] == "digits"
    assert b"CREDENTIAL" not in proc(stage.templates()[0], "environ").read_bytes()
    assert "secret of w-1" not in record_of(stage, "w-1").read_text()
    assert record_of(stage, "w-1").parent.stat().st_mode & 0o077 == 0


async def test_a_full_disk_costs_a_record_and_no_worker(tmp_path, opened, monkeypatch):
    stage = ProcessStage(tmp_path, fork=True)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    write = Records.write

    def failing(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    def full(records, record):
        if record.kin is not None:
            raise OSError(errno.ENOSPC, "no space left on device")
        write(records, record)

    monkeypatch.setattr(Records, "write", full)
    await words.start(stage, compute, "w-2")
    await stage.exit("w-1", 5)
    assert (await words.ended(stage, compute, "w-1")).exit_code == 5
    await compute.close()
    monkeypatch.undo()
    again = await opened(stage)
    assert (await words.seen(again))["w-2"].pid == stage.pid("w-2")
    monkeypatch.setattr(Records, "write", failing)
    with pytest.raises(Unavailable):
        await again.create(stage.order("w-3"))
    assert set(await words.seen(again)) == {"w-1", "w-2"}


async def test_a_machine_without_room_is_asked_again_later(tmp_path, opened, monkeypatch):
    stage = ProcessStage(tmp_path, fork=False)
    compute = await opened(stage)

    def refuse(*_, **__):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(_start.subprocess, "Popen", refuse)
    with pytest.raises(Unavailable, match="did not start"):
        await compute.create(stage.order("w-1"))
    monkeypatch.undo()
    await words.start(stage, compute, "w-1")


async def test_a_kill_for_want_of_memory_is_told_from_others(tmp_path, opened, monkeypatch):
    count = tmp_path / "memory.events"
    count.write_text("oom 0\noom_kill 3\n")
    monkeypatch.setattr(_driver, "counter", lambda: count)
    stage = ProcessStage(tmp_path, fork=False)
    compute = await opened(stage)
    for uid in ("w-1", "w-2", "w-3"):
        await words.start(stage, compute, uid)
    await stage.kill("w-1")
    assert (await words.ended(stage, compute, "w-1")).reason == ""
    count.write_text("oom 1\noom_kill 4\n")
    await stage.kill("w-2")
    assert (await words.ended(stage, compute, "w-2")).reason == "OOM"
    count.write_text("oom 1\noom_kill 5\n")
    await compute.remove("w-3")
    assert (await words.ended(stage, compute, "w-3")).reason == ""


async def test_exit_78_is_a_matter_of_configuration(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    await stage.exit("w-1", 78)
    assert (await words.ended(stage, compute, "w-1")).reason == "CONFIG"


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ({"worker": ("/no/such/program",)}, {}),
        ({"worker": (str(Path(__file__)),)}, {}),  # not executable
        ({}, {"NUL": "a\0b"}),
        ({}, {"HUGE": "x" * 3_000_000}),
    ],
)
async def test_what_can_never_start_is_refused_at_once(tmp_path, opened, options, env):
    stage = ProcessStage(tmp_path, fork=False, **options)
    compute = await opened(stage)
    with pytest.raises(Misconfigured, match="did not start"):
        await compute.create(Order(uid="w-1", app=stage.app, spec_generation=1, env=env))
    assert await compute.list() == []
    assert list((tmp_path / "state" / "workers").iterdir()) == []


async def test_what_can_not_start_after_all_ends(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=True, env={"TEST_TEMPLATE": "crash"}, worker=("/no/such/program",))
    compute = await opened(stage)
    await compute.create(stage.order("w-1"))
    seen = await words.ended(stage, compute, "w-1")
    assert (seen.reason, seen.exit_code) == ("CONFIG", None)
    assert "/no/such/program did not start" in seen.message


async def test_a_worker_runs_in_its_handlers_folder(tmp_path, opened):
    folder = tmp_path / "app"
    folder.mkdir()
    stage = ProcessStage(tmp_path, fork=False)
    stage.app = msgspec.structs.replace(stage.app, handler=f"{folder}/digits.py:Digits")
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    assert proc(stage.pid("w-1"), "cwd").resolve() == folder


async def test_a_long_log_is_cut_while_it_is_written_and_followed(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False, log_cap_bytes=10_000)
    compute = await opened(stage)
    await words.start(stage, compute, "w-1")
    await stage.say("w-1", *("x" * 99 for _ in range(150)))
    await compute._driver.tend()
    log = tmp_path / "state/logs/digits/w-1.log"
    assert (log.stat().st_size, log.with_suffix(".log.1").stat().st_size) == (0, 10_000)
    async with aclosing(compute.logs("w-1", tail=1, follow=True)) as lines:
        await stage.say("w-1", "after the cut")
        assert await anext(lines) == "after the cut"


async def test_old_logs_are_dropped_and_those_of_the_living_kept(tmp_path, opened):
    stage = ProcessStage(tmp_path, fork=False, logs_kept=2)
    compute = await opened(stage)
    for number in range(4):
        await words.start(stage, compute, f"w-{number}")
        os.utime(tmp_path / f"state/logs/digits/w-{number}.log", (number, number))
    for number in (1, 2, 3):
        await stage.exit(f"w-{number}", 0)
        await words.ended(stage, compute, f"w-{number}")
    await compute._driver.tend()
    left = sorted(path.name for path in (tmp_path / "state/logs/digits").iterdir())
    assert left == ["w-0.log", "w-2.log", "w-3.log"]


# -------------------------------------------------------------------- the real thing


async def test_the_product_s_own_worker_and_template(tmp_path, opened):
    """Forked or fresh, a worker comes up under its uid and goes when it is drained."""
    handler = tmp_path / "double.py"
    handler.write_text("from penstock.worker.handler import Handler\n\n\nclass Double(Handler):\n    pass\n")
    stage = ProcessStage(tmp_path, fork=True, **msgspec.structs.asdict(Options(base_env=dict(os.environ))))
    forked = App(name="forked", handler=f"{handler}:Double")
    fresh = App(name="fresh", handler=f"{handler}:Double", worker=Worker(fork_server=False))
    compute = await opened(stage)
    env = {"PENSTOCK_API": "http://127.0.0.1:9", "PENSTOCK_WORKER_TOKEN": "none"}
    for uid, app in (("w-forked-1", forked), ("w-forked-2", forked), ("w-fresh-1", fresh)):
        await compute.create(Order(uid=uid, app=app, spec_generation=1, env=env))

    async def up():
        seen = await compute.list()
        assert all(sighting.phase is not Phase.ENDED for sighting in seen), seen
        return all(f"penstock worker {sighting.uid}" in title(sighting.pid) for sighting in seen)

    await stage.until(up, "the workers come up")
    seen = await words.seen(compute)
    assert parent(seen["w-forked-1"].pid) == parent(seen["w-forked-2"].pid) != os.getpid()
    logs = {uid: tmp_path / "state/logs" / uid.split("-")[1] / f"{uid}.log" for uid in seen}
    assert {uid: kin.pid for uid, kin in find(logs).items()} == {uid: seen[uid].pid for uid in seen}
    for uid in seen:
        await compute.drain(uid)
        assert (await words.ended(stage, compute, uid)).exit_code == 0


def title(pid):
    return "" if pid is None else proc(pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_all_of_it_on_uvloop(tmp_path):
    """As in `penstock up`."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(a_life(ProcessStage(tmp_path, fork=True)))


async def a_life(stage):
    async with stage.compute() as compute:
        changes = compute.changes()
        await asyncio.gather(*(compute.create(stage.order(uid)) for uid in ("w-1", "w-2", "w-3")))
        for uid in ("w-1", "w-2", "w-3"):
            await words.running(stage, compute, uid)
        await stage.exit("w-1", 3)
        await stage.kill("w-2")
        ends = {}
        while len(ends) < 2:
            sighting = await anext(changes)
            if sighting.phase is Phase.ENDED:
                ends[sighting.uid] = sighting.exit_code
        assert ends == {"w-1": 3, "w-2": -9}
    async with stage.compute() as again:
        assert (await words.seen(again))["w-3"].phase is Phase.RUNNING
        await again.remove("w-3", 5.0)
        assert not await stage.lives("w-3")


# -------------------------------------------------------------------- settings


@pytest.mark.parametrize("url", ["process:relative", "process://host/path", "process:"])
def test_a_url_without_a_folder_is_refused(url):
    with pytest.raises(Misconfigured, match="names no folder"):
        open_compute(url, clock=ManualClock(), randomness=seeded(0))


def test_an_unknown_option_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="templat"):
        open_compute(f"process://{tmp_path}", clock=ManualClock(), randomness=seeded(0), templat=())


async def test_a_folder_that_was_not_opened_is_free_for_the_next(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "workers").touch()
    compute = open_compute(f"process://{state}", clock=ManualClock(), randomness=seeded(0))
    with pytest.raises(Unavailable, match="open failed"):
        await compute.open()
    (state / "workers").unlink()
    async with compute:
        assert await compute.list() == []


async def test_a_folder_that_can_not_be_used_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="can't be used"):
        await open_compute(f"process://{tmp_path}/file/state", clock=ManualClock(), randomness=seeded(0)).open()
