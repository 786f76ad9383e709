"""Handlers without a server: `run_local`, and the harness for users' tests."""

from __future__ import annotations

import asyncio
import threading

import pytest

from penstock import Handler, InvalidInput, Response, Retry, current_run, current_runs
from penstock.errors import Invalid
from penstock.model.app import App, Results, Worker
from penstock.testing.clock import ManualClock
from penstock.testing.harness import HandlerHarness
from penstock.worker.local import run_local

FILE = """
from penstock import Handler, InvalidInput

class Doubler(Handler):
    def load(self):
        self.factor = 2

    def predict(self, batch):
        if any(not isinstance(item, dict) for item in batch):
            raise InvalidInput("send JSON")
        return [{"n": self.factor * item["n"], "of": len(batch)} for item in batch]
"""


@pytest.fixture
def app(tmp_path) -> App:
    path = tmp_path / "doubler_for_local.py"
    path.write_text(FILE)
    return App(name="doubler", handler=f"{path}:Doubler", worker=Worker(batch_size=2), results=Results())


def test_a_handler_runs_with_no_server_at_all(app: App):
    results = run_local(app, [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}'], clock=ManualClock())
    assert [result.json for result in results] == [{"n": 2, "of": 2}, {"n": 4, "of": 2}, {"n": 6, "of": 1}]
    assert {result.content_type for result in results} == {"application/json"}


def test_what_fails_locally_tells_its_exception(app: App):
    fine, bad = run_local(app, [b'{"n": 1}', b"\x00"], clock=ManualClock())
    assert fine.ok
    assert (bad.ok, bad.reason, bad.message) == (False, "INVALID_INPUT", "send JSON")
    assert isinstance(bad.error, Exception)
    assert bad.error.__traceback__ is not None


def test_content_types_decide_what_is_json(app: App):
    (result,) = run_local(app, [b"nope"], ["application/json"], clock=ManualClock())
    assert result.reason == "INVALID_INPUT"
    with pytest.raises(Invalid, match="1 content types were given for 2 inputs"):
        run_local(app, [b"", b""], ["text/plain"], clock=ManualClock())


def test_no_input_gives_no_result(app: App):
    assert run_local(app, [], clock=ManualClock()) == []


class Steps(Handler):
    """Reports, saves, and looks whether it is still wanted."""

    def predict(self, batch):
        run = current_run()
        start = int(run.last_checkpoint or b"0")
        for step in range(start, 1000):
            run.progress(step / 1000, f"step {step}")
            if step % 100 == 0:
                run.checkpoint(b"%d" % step)
            if run.cancelled:
                return [{"stopped_at": step}]
            if run.stopping:
                raise Retry("made room")
            if batch[0].get("wait") and step == start:
                threading.Event().wait(0.05)
        return [{"from": start}]


def test_the_harness_takes_classes_objects_apps_and_references(app: App):
    for handler in (Steps, Steps()):
        with HandlerHarness(handler) as harness:
            assert harness.predict({})[0].json == {"from": 0}
    for handler in (app, app.handler):
        with HandlerHarness(handler) as harness:
            assert harness.predict({"n": 4})[0].json["n"] == 8


def test_the_harness_shows_progress_and_checkpoints():
    with HandlerHarness(Steps) as harness:
        submitted = harness.submit({}, checkpoint=b"700")
        assert submitted.results()[0].json == {"from": 700}
        assert submitted.progress[0] == (0.7, "step 700")
        assert submitted.checkpoints == [b"700", b"800", b"900"]


def test_the_harness_cancels_and_stops():
    entered = threading.Semaphore(0)

    class Endless(Steps):
        def predict(self, batch):
            entered.release()
            while not (current_run().cancelled or current_run().stopping):
                threading.Event().wait(0.001)
            return super().predict(batch)

    with HandlerHarness(Endless) as harness:
        cancelled = harness.submit({})
        assert entered.acquire(timeout=10)
        cancelled.cancel()
        assert cancelled.results()[0].json == {"stopped_at": 0}
        stopped = harness.submit({})
        assert entered.acquire(timeout=10)
        stopped.stop()
        assert stopped.results()[0].message == "made room"


def test_the_harness_predicts_in_micro_batches_and_says_what_failed():
    class Picky(Handler):
        def predict(self, batch):
            if any(item == b"bad" for item in batch):
                raise InvalidInput("bad is bad")
            return [Response(item, "image/png") if isinstance(item, bytes) else str(len(batch)) for item in batch]

    with HandlerHarness(Picky, batch_size=2) as harness:
        first, second, third, fourth = harness.predict({}, [1], b"bad", b"good")
        assert (first.text, second.text) == ("2", "2")
        assert (third.reason, third.message) == ("INVALID_INPUT", "bad is bad")
        assert (fourth.body, fourth.content_type) == (b"good", "image/png")


def test_the_harness_tells_deadline_and_tenant():
    clock = ManualClock()

    class Looks(Handler):
        async def predict(self, batch):
            await asyncio.sleep(0)
            return [{"left": run.seconds_left, "tenant": run.tenant} for run in current_runs()]

    with HandlerHarness(Looks, clock=clock) as harness:
        result = harness.submit({}, deadline_s=90.0, tenant="acme").results()[0]
        assert result.json == {"left": 90.0, "tenant": "acme"}


async def test_the_harness_works_inside_of_an_async_test():
    with HandlerHarness(Steps) as harness:
        assert harness.predict({})[0].ok
        assert harness.healthy()


def test_what_load_raises_reaches_the_test():
    class Broken(Handler):
        def load(self):
            raise FileNotFoundError("weights.bin")

    with pytest.raises(FileNotFoundError, match=r"weights\.bin"), HandlerHarness(Broken):
        pass
