"""The parts of the process driver, on systems other than this one too."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from penstock.compute.process import _exits, _kin, _logs, _oom
from penstock.compute.process._exits import Polling, exits
from penstock.compute.process._kin import Kin, alive, end_session, find, identify, same, send
from penstock.compute.process._logs import Logs, last_lines
from penstock.compute.process._oom import OomKills, counter


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        yield child
        child.kill()


@pytest.fixture(params=["linux", "elsewhere"])
def system(request, monkeypatch):
    """Run a test as it would on Linux and elsewhere."""
    if request.param == "elsewhere":
        monkeypatch.setattr(_kin, "_LINUX", False)
        monkeypatch.setattr(_kin, "_PIDFD", False)


# -------------------------------------------------------------------- kin


@pytest.mark.usefixtures("system")
def test_a_process_is_known_by_its_birth(sleeper):
    kin = identify(sleeper.pid)
    assert same(kin)
    assert alive(kin)
    assert identify(sleeper.pid) == kin
    stranger = Kin(kin.pid, "another time")
    assert not same(stranger)
    assert not send(stranger, signal.SIGKILL)
    assert end_session(stranger) == 0
    assert sleeper.poll() is None


@pytest.mark.usefixtures("system")
def test_a_zombie_is_there_and_does_not_live(sleeper):
    kin = identify(sleeper.pid)
    assert send(kin, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert same(kin)
    assert not alive(kin)
    assert not send(kin, signal.SIGKILL)
    sleeper.wait()
    assert identify(sleeper.pid) is None
    assert not same(kin)
    assert not send(kin, signal.SIGKILL)


@pytest.mark.usefixtures("system")
def test_a_session_ends_with_all_in_it():
    script = "sleep 60 & sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE) as leader:
        child = int(leader.stdout.readline())
        assert end_session(identify(leader.pid)) == 3
        leader.wait()
    kin = identify(child)
    give_up = time.monotonic() + 10
    while kin and alive(kin):
        assert time.monotonic() < give_up
        time.sleep(0.001)


@pytest.mark.parametrize(
    "spelt", [["--uid", "w-found-1"], ["--uid=w-found-1"], ["penstock worker w-found-1 app=digits"]]
)
def test_a_worker_is_found_by_its_title_and_its_log(tmp_path, spelt):
    command = [sys.executable, "-c", "import time; time.sleep(60)", *spelt]
    logs = {uid: tmp_path / uid for uid in ("w-found-1", "w-found-2")}
    with (
        logs["w-found-1"].open("w") as log,
        subprocess.Popen(command, start_new_session=True, stdout=log) as leader,
        subprocess.Popen(command, stdout=log) as member,
        subprocess.Popen(command, start_new_session=True) as stranger,
    ):
        assert {uid: kin.pid for uid, kin in find(logs).items()} == {"w-found-1": leader.pid}
        for process in (leader, member, stranger):
            process.kill()
    assert find(logs) == {}


# -------------------------------------------------------------------- exits


@pytest.fixture(params=[exits, Polling])
def watch(request):
    watch = request.param()
    yield watch
    watch.close()


async def ending(watch, kin):
    over = asyncio.get_running_loop().create_future()
    watch.watch(kin, over.set_result)
    async with asyncio.timeout(10):
        return await over


def spawned(code):
    child = subprocess.Popen(["sh", "-c", code])
    child.returncode = 0  # the watch collects it
    return identify(child.pid)


@pytest.mark.parametrize(("code", "given"), [("exit 3", 3), ("kill -9 $$", -9), ("exit 0", 0)])
async def test_a_childs_code_is_collected(watch, code, given):
    assert await ending(watch, spawned(code)) == given


async def test_who_is_gone_before_the_watch_is_reported_too(watch, sleeper):
    kin = identify(sleeper.pid)
    assert await ending(watch, Kin(kin.pid, "another time")) is None
    sleeper.kill()
    sleeper.wait()
    assert await ending(watch, kin) is None


def orphan():
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE) as parent:
        return identify(int(parent.stdout.readline()))


async def test_the_end_of_a_process_of_others_is_seen(watch):
    grandchild = orphan()
    over = asyncio.ensure_future(ending(watch, grandchild))
    await asyncio.sleep(0)
    os.kill(grandchild.pid, signal.SIGKILL)
    assert await over is None


async def test_nobody_is_called_after_the_close(watch, sleeper):
    calls = []
    watch.watch(identify(sleeper.pid), calls.append)
    watch.close()
    sleeper.kill()
    sleeper.wait()
    await asyncio.sleep(0.01)
    assert calls == []


async def test_without_descriptors_to_spare_exits_are_polled(monkeypatch):
    def refuse(_pid):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(_exits.os, "pidfd_open", refuse)
    watch = exits()
    assert await ending(watch, spawned("exit 4")) == 4
    watch.close()


# -------------------------------------------------------------------- memory


def test_each_kill_explains_one_death(tmp_path):
    count = tmp_path / "memory.events"
    count.write_text("oom_kill 2\n")
    kills = OomKills(count)
    assert not kills.explain()
    count.write_text("oom_kill 4\n")
    assert [kills.explain() for _ in range(3)] == [True, True, False]
    count.write_text("oom_kill 5\n")
    kills.settle()
    assert not kills.explain()
    count.write_text("rubbish\noom_kill many\n")
    assert not kills.explain()
    count.unlink()
    assert not kills.explain()
    assert not OomKills(None).explain()


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/a/b\n", "cgroup/a/b/memory.events"),
        ("3:cpu,cpuacct:/x\n4:memory:/a\n0::/\n", "cgroup/memory/a/memory.oom_control"),
        ("0::/gone\n", "vmstat"),
    ],
)
def test_the_counter_is_that_of_the_nearest_group(tmp_path, monkeypatch, groups, file):
    (tmp_path / "self").write_text(groups)
    for name in ("cgroup/a/b/memory.events", "cgroup/memory/a/memory.oom_control", "vmstat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(_oom, "OWN_GROUPS", tmp_path / "self")
    monkeypatch.setattr(_oom, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(_oom, "VMSTAT", tmp_path / "vmstat")
    assert counter() == tmp_path / file
    (tmp_path / "vmstat").unlink()
    (tmp_path / "self").unlink()
    assert counter() is None


# -------------------------------------------------------------------- logs


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path / "logs", cap=1000, kept=2)


async def read(logs, path, tail, follow=lambda: False):
    async with aclosing(logs.read(path, tail, follow)) as lines:
        return [line async for line in lines]


async def test_lines_are_shown_as_a_terminal_would(logs, tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\r\n 10%\r 50%\r100%\nbad \xff byte\nunfinished")
    assert await read(logs, path, 10) == ["one", "100%", "bad \ufffd byte", "unfinished"]
    assert await read(logs, path, 2) == ["bad \ufffd byte", "unfinished"]
    assert last_lines(path, 2, 5) == "ished"


async def test_the_end_of_a_large_log_is_found_from_its_end(logs, tmp_path):
    path = tmp_path / "log"
    with path.open("w") as file:
        file.writelines(f"{number:0100d}\n" for number in range(20_000))
    assert await read(logs, path, 3) == [f"{number:0100d}" for number in range(19_997, 20_000)]


async def test_no_log_yet_is_an_empty_one(logs, tmp_path):
    assert await read(logs, tmp_path / "none", 3) == []
    assert last_lines(tmp_path / "none", 3, 100) == ""
    assert last_lines(tmp_path, 3, 100) == ""


async def test_an_unfinished_line_is_given_once_and_whole(logs, tmp_path, monkeypatch):
    monkeypatch.setattr(_logs, "POLL_S", 0.001)
    path = tmp_path / "log"
    path.write_text("one\ntw")
    growing = True
    async with aclosing(logs.read(path, 5, lambda: growing)) as lines:
        assert await anext(lines) == "one"
        coming = asyncio.ensure_future(anext(lines))
        with path.open("a") as file:
            file.write("o\nthr")
        assert await coming == "two"
        growing = False
        assert [line async for line in lines] == ["thr"]


async def test_an_endless_line_is_given_in_parts(logs, tmp_path, monkeypatch):
    monkeypatch.setattr(_logs, "LONGEST_LINE", 10)
    path = tmp_path / "log"
    path.touch()
    async with aclosing(logs.read(path, 0, lambda: True)) as lines:
        coming = asyncio.ensure_future(anext(lines))
        path.write_text("x" * 50)
        assert await coming == "x" * 50


async def test_a_log_that_was_cut_is_read_from_its_new_start(logs, monkeypatch):
    monkeypatch.setattr(_logs, "POLL_S", 0.001)
    path = logs.path("digits", "w-1")
    path.write_text("x" * 2000 + "\n")
    async with aclosing(logs.read(path, 1, lambda: True)) as lines:
        await anext(lines)
        logs.tidy([path])
        with path.open("a") as file:
            file.write("after\n")
        assert await anext(lines) == "after"
    path.unlink()
    logs.tidy([path])


@pytest.mark.parametrize("lives", [True, False])
async def test_a_log_far_over_its_cap_leaves_its_end_only(logs, lives):
    path = logs.path("digits", "w-1")
    path.write_text("x" * 99_990 + "\nsaid last\n")
    logs.tidy([path] if lives else [])
    assert [size(path), size(path.with_suffix(".log.1"))] == [0, 1000]
    path.write_text("since then\n")
    async with aclosing(logs.read(path, 2, lambda: False)) as lines:
        assert [line async for line in lines] == ["said last", "since then"]


def test_a_log_is_cut_even_where_the_disk_has_no_room_for_its_end(logs):
    path = logs.path("digits", "w-1")
    path.write_text("x" * 99_990)
    path.with_suffix(".log.1").mkdir()  # as good as a full disk: it can't be written
    logs.tidy([path])
    assert size(path) == 0


def size(path: Path) -> int:
    return path.stat().st_size


def test_only_so_many_logs_of_the_dead_are_kept(logs):
    paths = [logs.path("digits", f"w-{number}") for number in range(4)]
    for number, path in enumerate(paths):
        path.touch()
        path.with_suffix(".log.1").touch()
        os.utime(path, (number, number))
    logs.tidy([paths[0]])
    left = sorted(Path(name).name for name in paths[0].parent.iterdir())
    assert left == sorted(f"w-{number}.log{part}" for number in (0, 2, 3) for part in ("", ".1"))
