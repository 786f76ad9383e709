"""The command line from end to end: a real `penstock up`, real workers, and every verb against them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from penstock.cli.session import Session
from penstock.run.program import program

PROGRAM = str(Path(sys.executable).with_name("penstock"))
PATIENCE_S = 20.0

MODEL = """
import pathlib, time
from penstock import Handler, InvalidInput, Response

HERE = pathlib.Path(__file__).parent


class Tried(Handler):
    def predict(self, batch):
        return [self.one(given) for given in batch]

    def one(self, given):
        if isinstance(given, bytes):
            return Response(given[::-1], "image/png")
        if "bad" in given:
            return InvalidInput(given["bad"])
        if "until" in given and not (HERE / given["until"]).exists():
            print("waiting for", given["until"], flush=True)
            while not (HERE / given["until"]).exists():
                time.sleep(0.01)
        if "needs" in given and not (HERE / given["needs"]).exists():
            raise ValueError("not yet")
        return given
"""
SPEC = """
apiVersion: penstock/v1
kind: App
metadata: {{ name: {name} }}
spec:
  handler: model.py:Tried
  worker: {{ idleExitSeconds: 60, batchSize: {batch} }}
  scaling: {{ maxInstances: 1, scaleUpCooldownSeconds: 0 }}
  retry: {{ maxAttempts: 1 }}
"""


class Place:
    """A folder with a model and the platform's state, and the program as it is called there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {**os.environ, "HOME": str(path), "NO_COLOR": "1"}
        self.environ.pop("PENSTOCK_API", None)
        path.joinpath("model.py").write_text(MODEL)

    def spec(self, name: str, batch: int = 1) -> str:
        """Write an app's YAML and give its path."""
        file = self.path / f"{name}.yaml"
        file.write_text(SPEC.format(name=name, batch=batch))
        return str(file)

    def __call__(self, *words: str, stdin: bytes | None = None) -> Result:
        session = Session(self.environ)
        return CliRunner().invoke(program(), list(words), input=stdin, obj=session, prog_name="penstock")

    def out(self, *words: str, stdin: bytes | None = None) -> str:
        """Call it, see that it succeeds, and give what it printed."""
        done = self(*words, stdin=stdin)
        assert done.exit_code == 0, done.output
        return done.stdout

    def run_of(self, *words: str) -> str:
        """Submit without waiting, and give the run's id."""
        return self.out("submit", *words, "--async", "-o", "name").strip().removeprefix("run/")


@contextmanager
def up(place: Place, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Give a started `penstock up` once it serves; the place asks it from then on. It is ended in any case."""
    log = place.path / "up.log"
    with log.open("w") as file:
        command = [PROGRAM, "up", "--port", "0", "--state", str(place.path / "state"), *words]
        process = subprocess.Popen(command, stdout=file, stderr=file, env=place.environ, cwd=place.path, text=True)
    try:
        until(lambda: process.poll() is not None or "next " in log.read_text())
        said = re.search(r"serves at (\S+)", log.read_text())
        assert said is not None, log.read_text()
        place.environ["PENSTOCK_API"] = said[1]
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        place.environ.pop("PENSTOCK_API", None)


def until(happens, patience_s: float = PATIENCE_S):
    """Give what `happens` gives once that is something."""
    deadline = time.monotonic() + patience_s
    while not (found := happens()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    """A place where the platform runs and the app `tried` is applied."""
    place = Place(tmp_path_factory.mktemp("cli"))
    with up(place):
        place.out("apply", "-f", place.spec("tried"))
        yield place


# ------------------------------------------------------------------ apps


def test_apply_creates_configures_and_leaves_alone(place):
    file = place.spec("other")
    assert place.out("apply", "-f", file, "--dry-run") == "app/other created (dry run)\n"
    assert place("get", "app", "other").exit_code == 3
    assert place.out("apply", "-f", file) == "app/other created\n"
    assert place.out("apply", "-f", file) == "app/other unchanged\n"
    assert place.out("diff", "-f", file) == ""
    place.spec("other", batch=7)
    expected = "  /spec/worker/batchSize: 1 -> 7\n"
    differs = place("diff", "-f", file)
    assert (differs.exit_code, differs.stdout) == (1, "app/other configured (dry run)\n" + expected)
    assert place.out("apply", "-f", file) == "app/other configured (generation 2)\n" + expected
    assert place.out("get", "apps", "-o", "name") == "app/other\napp/tried\n"
    assert json.loads(place.out("get", "app/other", "-o", "json"))["spec"]["worker"]["batchSize"] == 7
    assert place.out("delete", "other", "--yes") == "app/other deleted\n"
    assert place.out("wait", "app/other", "--for", "deleted") == "app/other is deleted\n"


def test_nobody_there_to_confirm_is_a_usage_error(place):
    assert place("delete", "tried").exit_code == 2
    assert place.out("get", "app", "tried", "-o", "name") == "app/tried\n"


def test_an_app_with_live_runs_is_kept_unless_forced(place):
    place.out("apply", "-f", place.spec("busy"))
    place.out("pause", "busy")
    run = place.run_of("busy", "--x", "1")
    refused = place("delete", "busy", "--yes")
    assert refused.exit_code == 1
    assert "has 1 live runs" in refused.stderr
    place.out("delete", "busy", "--force", "--yes")
    assert place.out("wait", f"run/{run}", "--for", "cancelled") == f"run/{run} is cancelled\n"


# ------------------------------------------------------------------ runs


def test_submit_prints_the_result(place):
    assert place.out("submit", "tried", "-d", '{"x": 1}', "--wait") == '{"x":1}\n'
    assert json.loads(place.out("submit", "tried", "--n", "2", "--name", "Ada", "--wait")) == {"n": 2, "name": "Ada"}
    assert place.out("submit", "tried", "-d", "-", stdin=b'{"y": 2}') == '{"y":2}\n'


def test_bytes_go_in_and_out_as_they_are(place):
    picture = place.path / "picture.png"
    picture.write_bytes(b"\x89PNG\x00\xff")
    done = place("submit", "tried", "-d", f"@{picture}", "--wait")
    assert done.stdout_bytes == b"\xff\x00GNP\x89"
    place.out("submit", "tried", "-d", f"@{picture}", "--out", str(place.path / "back.png"))
    assert (place.path / "back.png").read_bytes() == b"\xff\x00GNP\x89"


def test_a_ticket_leads_to_the_result(place):
    ticket = place.out("submit", "tried", "-d", '{"x": "ticket"}', "--async").strip()
    assert place.out("result", "tried", ticket, "--wait") == '{"x":"ticket"}\n'
    record = json.loads(place.out("status", "tried", ticket, "-o", "json"))
    assert (record["state"], record["ticket"]) == ("SUCCEEDED", ticket)
    assert place.out("result", f"run/{record['id']}") == '{"x":"ticket"}\n'
    assert place("result", "tried", "never-issued").exit_code == 3


def test_a_key_of_ones_own(place):
    place.out("submit", "tried", "--x", "1", "--rid", "mine", "--wait")
    again = place("submit", "tried", "--x", "2", "--rid", "mine", "--wait")
    assert json.loads(again.stdout) == {"x": 1, "_rid": "mine"}
    assert "An earlier input with this key won" in again.stderr


def test_a_run_that_fails_says_why_and_can_be_tried_again(place):
    failed = place("submit", "tried", "-d", '{"needs": "later"}', "--wait")
    assert failed.exit_code == 1
    assert "HANDLER_ERROR" in failed.stderr
    assert "ValueError < model.py:" in failed.stderr
    run = place.out("runs", "--app", "tried", "--state", "FAILED", "-o", "name").splitlines()[0]
    assert f"Next: penstock explain {run.removeprefix('run/')}" in failed.stderr
    assert "ValueError < model.py:" in place.out("explain", run)
    place.path.joinpath("later").touch()
    again = place.out("retry", run).strip()
    assert again != run
    assert place.out("wait", again, "--for", "succeeded", "--timeout", "20") == f"{again} is succeeded\n"
    assert place.out("result", again) == '{"needs":"later"}\n'
    assert place("result", run).exit_code == 1, "the run that failed has no result, though its key has one now"
    assert place("cancel", again).exit_code == 1


def test_a_bad_input_is_refused_in_the_handlers_words(place):
    refused = place("submit", "tried", "--bad", "too dark", "--wait")
    assert refused.exit_code == 1
    assert "INVALID_INPUT: too dark" in refused.stderr


def test_redrive_starts_what_failed_anew(place):
    place("submit", "tried", "-d", '{"needs": "sunrise"}', "--tag", "dawn", "--wait")
    place.path.joinpath("sunrise").touch()
    assert place.out("redrive", "--tag", "dawn", "--yes") == "1 run started anew\n"
    (run, _) = place.out("runs", "--tag", "dawn", "-o", "name").splitlines()
    place.out("wait", run, "--for", "succeeded", "--timeout", "20")


def test_a_paused_app_takes_runs_in_and_starts_none(place):
    # A worker lives and waits for work: it must not get this run.
    place.out("submit", "tried", "-d", '{"x": "before"}', "--wait")
    assert place.out("pause", "tried") == "app/tried paused\n"
    run = place.run_of("tried", "--x", "paused")
    early = place("result", f"run/{run}")
    assert early.exit_code == 1
    assert "is QUEUED" in early.stderr
    assert place("wait", f"run/{run}", "--for", "ended", "--timeout", "0.7").exit_code == 1
    other = place.run_of("tried", "--x", "unwanted")
    assert place.out("cancel", f"run/{other}", "--message", "changed my mind") == f"run/{other} cancelled\n"
    assert "changed my mind" in place.out("describe", f"run/{other}")
    assert place("wait", f"run/{other}", "--for", "succeeded").exit_code == 1
    place.out("resume", "tried")
    assert place.out("result", f"run/{run}", "--wait") == '{"x":"paused"}\n'


def test_a_run_is_followed_while_it_runs(place):
    run = place.run_of("tried", "--until", "gate-1")
    place.out("wait", f"run/{run}", "--for", "running", "--timeout", "20")
    assert [line.split()[1] for line in place.out("events", f"run/{run}").splitlines()] == ["queued", "leased"]
    until(lambda: "waiting for gate-1" in place.out("logs", "tried"))
    assert re.search(r"^w-tried-\w+ +tried +BUSY +1 ", place.out("get", "workers", "--app", "tried"), re.MULTILINE)
    place.path.joinpath("gate-1").touch()
    types = [json.loads(line)["type"] for line in place.out("events", "-f", f"run/{run}", "-o", "json").splitlines()]
    assert types == ["queued", "leased", "succeeded"]


def test_what_an_app_did_can_be_read(place):
    place.out("submit", "tried", "-d", '{"x": "read"}', "--wait")
    assert "ScaledUp" in place.out("events", "tried")
    told = place.out("describe", "app/tried")
    assert [line for line in told.splitlines() if line in ("Workers", "Events", "Placements", "Spec")] == [
        "Workers",
        "Events",
        "Placements",
        "Spec",
    ]
    assert re.search(
        r"^\d\d:\d\d:\d\d\.\d{3} \[w-tried-\w+\] info +loaded seconds=", place.out("logs", "tried"), re.MULTILINE
    )


def test_watching_shows_changes_until_ctrl_c(place):
    watching = subprocess.Popen(
        [PROGRAM, "runs", "--tag", "watched", "-w"], env=place.environ, stdout=subprocess.PIPE, text=True
    )
    run = place.run_of("tried", "--until", "gate-2", "--tag", "watched")
    assert watching.stdout is not None
    lines = iter(watching.stdout)
    assert next(lines).split()[:3] == ["ID", "APP", "STATE"]
    place.out("wait", f"run/{run}", "--for", "running", "--timeout", "20")
    place.path.joinpath("gate-2").touch()
    assert "SUCCEEDED" in next(line for line in lines if "SUCCEEDED" in line)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE_S) == 130
    watching.stdout.close()


# ------------------------------------------------------------------ the server itself


def test_who_and_what_answers(place):
    assert place.out("whoami").startswith("anonymous of tenant default\n")
    assert place.out("version", "--server").splitlines()[1].endswith(f"({place.environ['PENSTOCK_API']})")


def test_names_of_apps_are_completed(place):
    done = subprocess.run(
        [PROGRAM],
        env={
            **place.environ,
            "_PENSTOCK_COMPLETE": "bash_complete",
            "COMP_WORDS": "penstock submit t",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "plain,tried\n"


def test_doctor_leaves_alone_what_a_running_platform_has(place):
    done = place("doctor", "--state", str(place.path / "state"))
    assert done.exit_code == 0
    verdicts = [line[15:].split("  ")[0] for line in done.stdout.splitlines() if line[0] != " "]
    assert verdicts == ["in use", "ok", "ok", "in use"]


def test_a_state_folder_serves_one_platform(place):
    second = subprocess.run(
        [PROGRAM, "up", "--port", "0", "--state", place.path / "state"],
        env=place.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert second.returncode == 1
    assert "stop that process" in second.stderr


def test_a_taken_port_is_said_at_once(place, tmp_path):
    port = place.environ["PENSTOCK_API"].rpartition(":")[2]
    done = place("up", "--port", port, "--state", str(tmp_path))
    assert done.exit_code == 1
    assert "choose another port with --port" in done.stderr


def test_doors_stay_closed_to_other_machines(place, tmp_path):
    done = place("up", "--host", "0.0.0.0", "--state", str(tmp_path))
    assert done.exit_code == 1
    assert "bind a loopback address" in done.stderr


def test_where_nothing_answers(tmp_path):
    done = Place(tmp_path)("get", "apps", "--api", "http://127.0.0.1:9")
    assert done.exit_code == 5
    assert "start it with `penstock up`" in done.stderr


def test_a_wait_lets_go_and_workers_finish_when_told_to_stop(tmp_path):
    place = Place(tmp_path)
    with up(place, "--log-level", "warning") as process:
        place.out("apply", "-f", place.spec("tried"))
        run = place.run_of("tried", "--until", "gate")
        place.out("wait", f"run/{run}", "--for", "running", "--timeout", "20")
        following = subprocess.Popen(
            [PROGRAM, "logs", "-f", "tried"],
            env=place.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert following.stdout is not None
        until(lambda: following.stdout and "waiting for" in following.stdout.readline())
        process.terminate()
        place.path.joinpath("gate").touch()
        assert process.wait(PATIENCE_S) == 0
        following.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in (tmp_path / "up.log").read_text()
    with up(place):
        assert place.out("result", f"run/{run}") == '{"until":"gate"}\n'


def test_told_twice_it_ends_at_once_and_loses_nothing(tmp_path):
    place = Place(tmp_path)
    with up(place) as process:
        place.out("apply", "-f", place.spec("tried"))
        run = place.run_of("tried", "--until", "gate")
        place.out("wait", f"run/{run}", "--for", "running", "--timeout", "20")
        process.send_signal(signal.SIGINT)
        until(lambda: "platform.stopping" in (tmp_path / "up.log").read_text())
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - began < 5.0
    place.path.joinpath("gate").touch()
    with up(place):
        assert place.out("result", f"run/{run}", "--wait", "--timeout", "30") == '{"until":"gate"}\n'


# ------------------------------------------------------------------ without a server


def test_a_handler_is_run_right_here(tmp_path):
    place = Place(tmp_path)
    spec = place.spec("tried", batch=2)
    for name, text in {"a.json": '{"x": 1}', "b.json": '{"bad": "too dark"}', "c.json": '{"needs": "nothing"}'}.items():
        tmp_path.joinpath(name).write_text(text)
    assert place.out("run", spec, "--input", str(tmp_path / "a.json")) == '{"x":1}\n'
    assert place.out("run", spec, "--input", "-", "--content-type", "application/json", stdin=b'{"y":2}') == '{"y":2}\n'
    inputs = [word for name in ("a", "b", "c") for word in ("--input", str(tmp_path / f"{name}.json"))]
    done = place("run", spec, *inputs, "--out", str(tmp_path / "results"))
    assert done.exit_code == 1
    assert "b.json: failed, INVALID_INPUT: too dark" in done.stderr
    assert "ValueError: not yet" in done.stderr
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name", "can't be imported: ModuleNotFoundError"),
        ("class Tried: pass", "no class derived from penstock.Handler"),
        (
            """
            from penstock import Handler
            class Tried(Handler):
                def load(self): raise OSError("no weights")
            """,
            "failed to load: OSError: no weights",
        ),
    ],
)
def test_a_handler_that_can_not_be_run_says_why(tmp_path, source, said):
    place = Place(tmp_path)
    spec = place.spec("tried")
    place.path.joinpath("model.py").write_text(textwrap.dedent(source))
    command = [PROGRAM, "run", spec, "--input", "-"]
    done = subprocess.run(command, env=place.environ, input="{}", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr


def test_doctor_uses_every_backend(tmp_path):
    place = Place(tmp_path)
    found = json.loads(place.out("doctor", "--state", str(tmp_path / "state"), "-o", "json"))
    assert [(one["part"], one["verdict"]) for one in found] == [
        ("ledger", "ok"), ("queue", "ok"), ("store", "ok"), ("compute", "ok"),
    ]  # fmt: skip
    assert all(one["promise"] for one in found)
    assert list((tmp_path / "state/workers").iterdir()) == []


def test_doctor_says_what_does_not_work(tmp_path):
    place = Place(tmp_path)
    place.environ |= {"PENSTOCK__LEDGER": "sqlite:////proc/nowhere/ledger.db", "PENSTOCK__STORE": "gopher://hole"}
    done = place("doctor", "--state", str(tmp_path / "state"))
    assert done.exit_code == 1
    assert [line.split()[:2] for line in done.stdout.splitlines() if line[0] != " "] == [
        ["ledger", "failed"], ["queue", "ok"], ["store", "failed"], ["compute", "ok"],
    ]  # fmt: skip
    assert "no store driver goes by 'gopher'" in done.stdout


def test_a_worker_by_hand_says_what_it_needs(tmp_path):
    command = [PROGRAM, "worker", "--uid", "w-1"]
    done = subprocess.run(command, env={"PATH": "/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "PENSTOCK_APP" in done.stderr
