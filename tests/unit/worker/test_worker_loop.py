"""The loop against a broker that keeps the rules of the wire, over real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import threading
from typing import Any

import msgspec
import pytest

from penstock.model.run import Outcome, Reason
from penstock.worker.current import current_run, current_runs
from penstock.worker.exits import Exit
from penstock.worker.handler import Handler, InvalidInput, Retry
from penstock.worker.outage import Outage
from pretend_broker import PretendBroker, eventually, result_of

SECRET = "sesame-4711"


class Echo(Handler):
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def predict(self, batch):
        self.sizes.append(len(batch))
        return batch


class Gate(Handler):
    """Waits in `predict` until it is let through; tells when it was entered."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.runs: list[Any] = []

    def predict(self, batch):
        self.runs += current_runs()
        self.entered.set()
        assert self.open.wait(30)
        return batch


class AsyncGate(Handler):
    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.open = asyncio.Event()

    async def predict(self, batch):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return batch


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open.set()


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 10)


# ---------------------------------------------------------------- lease, predict, settle


async def test_runs_are_worked_off_in_micro_batches_and_the_next_ride_on_the_settle(broker: PretendBroker, serve):
    runs = await broker.submit(*({"n": n} for n in range(20)))
    handler = Echo()
    await serve(handler, batch_size=8)
    await broker.settled()
    assert [msgspec.json.decode(result_of(run.ending)) for run in runs] == [{"n": n} for n in range(20)]
    assert handler.sizes == [8, 8, 4]
    assert [name for name, _ in broker.calls[:2]] == ["lease", "settle"]
    assert broker.requests("settle")[0].want.max >= 8


async def test_one_run_after_the_other_costs_one_request_each(broker: PretendBroker, serve):
    await serve(Echo())
    for n in range(20):
        await broker.settled(*(await broker.submit({"n": n})))
    assert len(broker.calls) <= 23


async def test_results_carry_their_content_type_and_compression(broker: PretendBroker, serve):
    class Gives(Handler):
        def predict(self, batch):
            return ["x" * item["n"] for item in batch]

    small, large = await broker.submit({"n": 10}, {"n": 5000})
    await serve(Gives(), batch_size=2)
    await broker.settled()
    assert (small.ending.encoding, small.ending.content_type) == ("", "text/plain; charset=utf-8")
    assert large.ending.encoding == "gzip"
    assert result_of(large.ending) == b"x" * 5000


async def test_only_the_culprit_of_a_micro_batch_fails(broker: PretendBroker, serve):
    class Picky(Handler):
        def predict(self, batch):
            for item in batch:
                if item["n"] == 5:
                    raise InvalidInput("five is right out")
                if item["n"] == 6:
                    raise ValueError(SECRET)
            return batch

    runs = await broker.submit(*({"n": n} for n in range(8)))
    await serve(Picky(), batch_size=8)
    await broker.settled()
    assert [run.state for run in runs] == ["SUCCEEDED"] * 5 + ["FAILED"] * 2 + ["SUCCEEDED"]
    assert (runs[5].ending.reason, len(runs[5].endings)) == (Reason.INVALID_INPUT, 1)
    assert (runs[6].ending.reason, len(runs[6].endings)) == (Reason.HANDLER_ERROR, 3)  # max_attempts


async def test_a_wrong_number_of_outputs_is_retried_with_a_message(broker: PretendBroker, serve):
    class Drops(Handler):
        def predict(self, batch):
            return batch[1:]

    (run,) = await broker.submit({})
    await serve(Drops())
    await broker.settled()
    assert [ending.outcome for ending in run.endings] == [Outcome.RETRY] * 3
    assert run.ending.message == "predict gave 0 outputs for 1 inputs"


async def test_retry_after_reaches_the_broker(broker: PretendBroker, serve):
    class Later(Handler):
        def predict(self, batch):
            raise Retry("model is warming up", after=7.5)

    (run,) = await broker.submit({})
    broker.max_attempts = 1
    await serve(Later())
    await broker.settled()
    assert (run.ending.outcome, run.ending.retry_after) == (Outcome.RETRY, 7.5)


async def test_tenants_that_may_not_mix_get_calls_of_their_own(broker: PretendBroker, serve):
    seen = []

    class Looks(Handler):
        def predict(self, batch):
            seen.append({run.tenant for run in current_runs()})
            return batch

    for tenant in ("a", "b"):
        await broker.submit({}, {}, tenant=tenant)
    await serve(Looks(), batch_size=8, mix_tenants=False)
    await broker.settled()
    assert seen == [{"a"}, {"b"}]


async def test_a_micro_batch_waits_to_be_filled(broker: PretendBroker, serve):
    handler = Echo()
    await serve(handler, batch_size=3, batch_wait_ms=10_000)
    await broker.submit({})
    await broker.running()
    await broker.submit({}, {})
    await broker.settled()
    assert handler.sizes == [3]


async def test_a_micro_batch_waits_no_longer_than_it_may(broker: PretendBroker, serve):
    handler = Echo()
    await broker.submit({})
    await serve(handler, batch_size=3, batch_wait_ms=30)
    await broker.settled()
    assert handler.sizes == [1]


async def test_told_to_leave_while_a_micro_batch_fills_it_runs_what_it_has(broker: PretendBroker, serve):
    (run,) = await broker.submit({})
    serving = await serve(Echo(), batch_size=3, batch_wait_ms=60_000)
    await broker.until(lambda: len(broker.requests("lease")) == 2)
    serving.loop.leave(Exit.DONE)
    assert await serving.exit() is Exit.DONE
    assert run.state == "SUCCEEDED"


async def test_an_async_handler_is_called_as_often_at_once_as_the_app_allows(broker: PretendBroker, serve):
    handler = AsyncGate()
    runs = await broker.submit(*({} for _ in range(6)))
    await serve(handler, put_concurrency=4)
    await broker.running(*runs[:4])
    await eventually(lambda: handler.inside == 4)
    assert runs[4].state == "QUEUED"
    handler.open.set()
    await broker.settled()
    assert handler.most == 4


async def test_a_declared_concurrency_calls_a_sync_handler_in_threads(broker: PretendBroker, serve):
    barrier = threading.Barrier(3, timeout=10)

    class Three(Handler):
        concurrency = 3

        def predict(self, batch):
            barrier.wait()
            return batch

    await broker.submit({}, {}, {})
    await serve(Three())
    await broker.settled()


# ---------------------------------------------------------------- alone


async def test_a_run_that_must_be_alone_is_taken_with_nothing_beside_it(broker: PretendBroker, serve, gate: Gate):
    (alone,) = await broker.submit({}, alone=True)
    (other,) = await broker.submit({})
    await serve(gate, batch_size=8)
    await entered(gate)
    assert (alone.state, other.state) == ("RUNNING", "QUEUED")
    assert [name for name, _ in broker.calls] == ["lease"]
    gate.open.set()
    await broker.settled()


async def test_drain_first_makes_it_come_back_holding_nothing(broker: PretendBroker, serve):
    handler = AsyncGate()
    (first,) = await broker.submit({})
    await serve(handler, put_concurrency=4)
    await broker.running(first)
    (alone,) = await broker.submit({}, alone=True)
    await broker.until(lambda: any(not request.idle for request in broker.requests("lease")))
    asked = len(broker.calls)
    await asyncio.sleep(0.05)
    assert len(broker.calls) <= asked + 1  # it does not ask on while it drains
    assert alone.state == "QUEUED"
    handler.open.set()
    await broker.settled(first, alone)
    granting = [request for name, request in broker.calls if name == "settle" and request.want and request.want.idle]
    assert granting


# ---------------------------------------------------------------- large bodies and results


async def test_a_large_body_is_fetched_by_its_url(broker: PretendBroker, serve):
    (run,) = await broker.submit(b"\x00" * 3_000_000, stored=True, content_type="application/octet-stream")
    await serve(Echo(), max_result_bytes=10 << 20)
    await broker.settled()
    assert gzip.decompress(broker.objects.get(run.ending.result_key, run.ending.result or b"")) == b"\x00" * 3_000_000


async def test_an_expired_url_is_replaced_by_a_fresh_one(broker: PretendBroker, serve):
    (run,) = await broker.submit({"n": 1}, stored=True)
    broker.expired_urls = 1
    await serve(Echo())
    await broker.settled()
    assert result_of(run.ending) == b'{"n":1}'
    assert len(broker.requests("urls")) == 1


async def test_a_body_that_is_gone_fails_its_run_alone(broker: PretendBroker, serve):
    gone, here = await broker.submit({"n": 1}, {"n": 2}, stored=True)
    del broker.objects[f"body/{gone.id}"]
    await serve(Echo(), batch_size=2)
    await broker.settled()
    assert (gone.state, gone.ending.reason) == ("FAILED", Reason.PAYLOAD_MISSING)
    assert here.state == "SUCCEEDED"


async def test_a_body_behind_a_store_that_is_down_is_tried_again_by_another_attempt(
    broker: PretendBroker, serve, monkeypatch
):
    monkeypatch.setattr("penstock.worker.transfer.PAUSE_S", 0.001)
    (run,) = await broker.submit({"n": 1}, stored=True)
    broker.broken_store = 4  # as many tries as an attempt makes
    await serve(Echo())
    await broker.settled()
    assert [ending.outcome for ending in run.endings] == [Outcome.RETRY, Outcome.SUCCEEDED]
    assert run.endings[0].reason is Reason.PAYLOAD_MISSING


async def test_a_result_that_cannot_be_stored_is_no_success(broker: PretendBroker, serve, monkeypatch):
    monkeypatch.setattr("penstock.worker.transfer.PAUSE_S", 0.001)

    class Gives(Handler):
        def predict(self, batch):
            return [b"x"]

    (run,) = await broker.submit({})
    broker.broken_store = 4
    await serve(Gives(), post={"inline_max_bytes": 0})
    await broker.settled()
    assert [ending.outcome for ending in run.endings] == [Outcome.RETRY, Outcome.SUCCEEDED]
    assert gzip.decompress(broker.objects[run.ending.result_key]) == b"x"


async def test_a_large_result_goes_to_the_store_and_a_taken_key_is_left_alone(broker: PretendBroker, serve):
    noise = b"".join(n.to_bytes(4, "big") for n in range(40_000))

    class Noise(Handler):
        def predict(self, batch):
            return [noise for _ in batch]

    (run,) = await broker.submit({})
    broker.taken_keys.add(f"results/{run.id}.gz")
    await serve(Noise())
    await broker.settled()
    assert run.ending.result is None
    assert run.ending.result_key == f"results/{run.id}.2.gz"
    stored = broker.objects[run.ending.result_key]
    assert gzip.decompress(stored) == noise
    assert run.ending.result_size == len(stored)
    assert run.ending.encoding == "gzip"
    assert broker.put_headers[0]["If-None-Match"] == "*"


async def test_a_result_above_the_apps_limit_fails_the_run(broker: PretendBroker, serve):
    class Big(Handler):
        def predict(self, batch):
            return ["x" * 2000]

    (run,) = await broker.submit({})
    await serve(Big(), max_result_bytes=1999)
    await broker.settled()
    assert (run.state, run.ending.reason) == ("FAILED", Reason.RESULT_TOO_LARGE)


# ---------------------------------------------------------------- lost and cancelled


async def test_the_result_of_a_lost_run_is_dropped(broker: PretendBroker, serve, gate: Gate):
    (run,) = await broker.submit({})
    await serve(gate, lease_s=0.3)
    await entered(gate)
    broker.take_away(run)
    await eventually(lambda: gate.runs[0].cancelled)
    gate.open.set()
    (after,) = await broker.submit({})
    await broker.settled(after)
    assert run.endings == []
    assert all(item.run_id != run.id for request in broker.requests("settle") for item in request.done)


async def test_a_cancelled_run_is_told_and_its_result_dropped(broker: PretendBroker, serve):
    class Patient(Handler):
        def predict(self, batch):
            run = current_run()
            for _ in range(1000):
                if run.cancelled:
                    return [{"stopped": True}]
                threading.Event().wait(0.01)
            raise AssertionError

    (run,) = await broker.submit({})
    await serve(Patient(), lease_s=0.3)
    await broker.running(run)
    broker.cancel(run)
    await broker.until(lambda: any(asked.wait_s for asked in broker.requests("lease")[1:]))  # it is free again
    assert run.endings == []


async def test_a_cancelled_coroutine_is_stopped_and_the_slot_is_free(broker: PretendBroker, serve):
    handler = AsyncGate()
    (run,) = await broker.submit({})
    await serve(handler, put_concurrency=1, lease_s=0.3)
    await broker.running(run)
    broker.cancel(run)
    await eventually(lambda: handler.inside == 0)
    handler.open.set()
    (after,) = await broker.submit({})
    await broker.settled(after)


async def test_an_ending_that_arrives_too_late_is_harmless(broker: PretendBroker, serve, gate: Gate, caplog):
    (run,) = await broker.submit({})
    await serve(gate)
    await entered(gate)
    broker.take_away(run)  # no heartbeat tells it in time
    gate.open.set()
    (after,) = await broker.submit({})
    await broker.settled(after)
    assert run.endings == []
    assert ("not taken", "stale") in [(record.message, record.fields.get("code")) for record in caplog.records]


async def test_progress_reaches_the_broker(broker: PretendBroker, serve, gate: Gate):
    class Reports(Gate):
        def predict(self, batch):
            current_run().progress(0.25, "a quarter")
            return super().predict(batch)

    handler = Reports()
    (run,) = await broker.submit({})
    await serve(handler)
    await broker.until(lambda: run.progress == [(0.25, "a quarter")])
    handler.open.set()
    await broker.settled()


# ---------------------------------------------------------------- checkpoints


async def test_a_sync_handlers_checkpoint_is_saved_when_the_call_returns(broker: PretendBroker, serve):
    class Saves(Handler):
        def predict(self, batch):
            run = current_run()
            if run.last_checkpoint:
                return [run.last_checkpoint]
            run.checkpoint(b"step 1")
            assert broker.runs[run.run_id].checkpoint == b"step 1"
            raise Retry

    (run,) = await broker.submit({})
    await serve(Saves())
    await broker.settled()
    assert result_of(run.ending) == b"step 1"


async def test_an_async_handler_awaits_its_checkpoint(broker: PretendBroker, serve):
    class Saves(Handler):
        async def predict(self, batch):
            await current_run().checkpoint(b"step 1")
            return [broker.runs[current_run().run_id].checkpoint]

    (run,) = await broker.submit({})
    await serve(Saves())
    await broker.settled()
    assert result_of(run.ending) == b"step 1"


async def test_a_checkpoint_that_cannot_be_saved_is_logged_and_the_run_goes_on(
    broker: PretendBroker, serve, monkeypatch, caplog
):
    monkeypatch.setattr("penstock.worker.desk.PAUSE_S", 0.001)

    class Saves(Handler):
        def predict(self, batch):
            broker.down = True
            current_run().checkpoint(b"step 1")
            broker.down = False
            return batch

    (run,) = await broker.submit({})
    await serve(Saves())
    await broker.settled()
    assert (run.state, run.checkpoint) == ("SUCCEEDED", None)
    assert "checkpoint not saved" in [record.message for record in caplog.records]


async def test_a_checkpoint_of_a_cancelled_run_tells_the_handler(broker: PretendBroker, serve, gate: Gate):
    told = []

    class Saves(Gate):
        def predict(self, batch):
            super().predict(batch)
            run = current_run()
            run.checkpoint(b"late")
            told.append(run.cancelled)
            return batch

    handler = Saves()
    (run,) = await broker.submit({})
    await serve(handler)
    await entered(handler)
    broker.cancel(run)
    handler.open.set()
    (after,) = await broker.submit({})
    await broker.settled(after)
    assert told[0] is True
    assert run.checkpoint is None


# ---------------------------------------------------------------- leaving


async def test_an_idle_worker_asks_for_leave_and_goes(broker: PretendBroker, serve):
    serving = await serve(Echo(), idle_exit_seconds=0.2)
    assert await serving.exit() is Exit.DONE
    assert [name for name, _ in broker.calls][-1] == "exit"


async def test_a_refused_leave_keeps_it_asking_for_work(broker: PretendBroker, serve):
    broker.exit_granted = False
    await serve(Echo(), idle_exit_seconds=0.1)
    await broker.until(lambda: len(broker.requests("exit")) >= 2)
    (run,) = await broker.submit({})
    await broker.settled(run)


async def test_told_to_exit_it_finishes_what_it_holds(broker: PretendBroker, serve, gate: Gate):
    (run,) = await broker.submit({})
    serving = await serve(gate, lease_s=0.3)
    await entered(gate)
    await broker.drain()
    await broker.until(lambda: len(run.beats) >= 2)
    assert not serving.task.done()
    gate.open.set()
    assert await serving.exit() is Exit.DONE
    assert run.state == "SUCCEEDED"
    assert len(broker.requests("lease")) == 1


async def test_a_drained_long_poll_ends_the_worker_at_once(broker: PretendBroker, serve):
    serving = await serve(Echo())
    await broker.until(lambda: broker.calls)
    await broker.drain()
    assert await serving.exit(2) is Exit.DONE


@pytest.mark.parametrize("status", [401, 403, 410])
async def test_a_worker_that_is_not_known_any_more_goes(broker: PretendBroker, serve, status: int):
    broker.status = status
    serving = await serve(Echo())
    assert await serving.exit(2) is Exit.DONE


async def test_on_sigterm_what_fits_in_the_grace_is_finished(broker: PretendBroker, serve, gate: Gate):
    (run,) = await broker.submit({})
    serving = await serve(gate)
    await entered(gate)
    serving.loop.leave(Exit.DONE, 5.0)
    assert gate.runs[0].stopping
    gate.open.set()
    assert await serving.exit() is Exit.DONE
    assert run.state == "SUCCEEDED"


async def test_on_sigterm_the_rest_is_released_uncharged(broker: PretendBroker, serve, gate: Gate):
    (run,) = await broker.submit({})
    serving = await serve(gate)
    await entered(gate)
    serving.loop.leave(Exit.DONE, 0.2)
    assert await serving.exit() is Exit.DONE
    assert (run.state, run.failures) == ("QUEUED", 0)
    assert run.ending.outcome is Outcome.RELEASED
    gate.open.set()


async def test_a_handler_that_makes_room_is_not_charged(broker: PretendBroker, serve, gate: Gate):
    class MakesRoom(Gate):
        def predict(self, batch):
            self.entered.set()
            run = current_run()
            while not run.stopping:
                threading.Event().wait(0.01)
            run.checkpoint(b"so far")
            raise Retry

    handler = MakesRoom()
    (run,) = await broker.submit({})
    serving = await serve(handler)
    await entered(handler)
    serving.loop.leave(Exit.DONE, 5.0)
    assert await serving.exit() is Exit.DONE
    assert (run.ending.outcome, run.failures, run.checkpoint) == (Outcome.RELEASED, 0, b"so far")


async def test_leaving_ends_a_long_poll_at_once(broker: PretendBroker, serve):
    serving = await serve(Echo())
    await broker.until(lambda: broker.calls)
    serving.loop.leave(Exit.DONE, 8.0)
    assert await serving.exit(2) is Exit.DONE


async def test_leaving_during_a_settle_that_waits_for_work_loses_no_result(broker: PretendBroker, serve):
    serving = await serve(Echo())
    (run,) = await broker.submit({})
    await broker.settled(run)  # its reply stays open, for it asks for the next work
    serving.loop.leave(Exit.DONE, 8.0)
    assert await serving.exit(3) is Exit.DONE
    assert len(run.endings) == 1
    assert len(broker.requests("settle")) == 2  # said again, as no answer came, and answered with `already`


async def test_a_silent_broker_does_not_hold_up_the_grace(broker: PretendBroker, serve, gate: Gate):
    await broker.submit({})
    serving = await serve(gate)
    await entered(gate)
    broker.silent = True
    gate.open.set()
    await broker.until(lambda: broker.requests("settle"))
    serving.loop.leave(Exit.DONE, 0.1)
    assert await serving.exit(5) is Exit.DONE


async def test_a_health_check_behind_a_call_that_hangs_does_not_hold_up_the_exit(
    broker: PretendBroker, serve, gate: Gate, monkeypatch
):
    monkeypatch.setattr("penstock.worker.loop.HEALTH_S", 0.0)
    (run,) = await broker.submit({})
    serving = await serve(gate)
    await entered(gate)
    await broker.running(run)
    serving.loop.leave(Exit.DONE, 0.1)
    assert await serving.exit(5) is Exit.DONE
    assert run.ending.outcome is Outcome.RELEASED


async def test_a_worker_is_recycled_after_its_runs(broker: PretendBroker, serve):
    runs = await broker.submit(*({} for _ in range(10)))
    serving = await serve(Echo(), batch_size=4, max_runs=6)
    assert await serving.exit() is Exit.DONE
    assert [run.state for run in runs] == ["SUCCEEDED"] * 6 + ["QUEUED"] * 4


async def test_an_unhealthy_replica_goes(broker: PretendBroker, serve):
    class Breaks(Handler):
        broken = False

        def predict(self, batch):
            self.broken = True
            raise RuntimeError("CUDA error: device-side assert triggered")

        def health(self):
            return not self.broken

    await broker.submit({})
    serving = await serve(Breaks())
    assert await serving.exit() is Exit.UNHEALTHY


# ---------------------------------------------------------------- deadlines


async def test_a_hang_past_the_deadline_fails_its_run_and_ends_the_replica(
    broker: PretendBroker, serve, gate: Gate, monkeypatch
):
    monkeypatch.setattr("penstock.worker.pulse.STUCK_S", 0.3)
    (run,) = await broker.submit({}, deadline_s=0.3)
    serving = await serve(gate)
    await broker.settled(run)
    assert run.ending.reason is Reason.DEADLINE_EXCEEDED
    assert await serving.exit() is Exit.STUCK


async def test_a_late_coroutine_is_cancelled_and_the_replica_lives_on(broker: PretendBroker, serve):
    handler = AsyncGate()
    (run,) = await broker.submit({}, deadline_s=0.3)
    serving = await serve(handler)
    await broker.settled(run)
    assert run.ending.reason is Reason.DEADLINE_EXCEEDED
    handler.open.set()
    (after,) = await broker.submit({})
    await broker.settled(after)
    assert not serving.task.done()


# ---------------------------------------------------------------- trouble


async def test_an_outage_is_ridden_out_and_no_result_is_lost(broker: PretendBroker, serve, gate: Gate):
    (run,) = await broker.submit({})
    serving = await serve(gate, idle_exit_seconds=0.2, lease_s=0.3)
    await entered(gate)
    broker.down = True
    asked = len(broker.calls)
    gate.open.set()
    await broker.until(lambda: len([name for name, _ in broker.calls[asked:] if name == "settle"]) >= 4)
    assert not serving.task.done()  # longer than it would stay without a result
    broker.down = False
    await broker.settled(run)


async def test_without_a_result_in_hand_a_lost_broker_is_given_up(broker: PretendBroker, serve):
    broker.down = True
    serving = await serve(Echo(), idle_exit_seconds=0.3)
    assert await serving.exit() is Exit.BROKER_LOST


async def test_one_result_that_the_broker_refuses_does_not_hold_up_the_others(broker: PretendBroker, serve):
    class Gives(Handler):
        def predict(self, batch):
            return [InvalidInput("no") if item["n"] else {"n": 0} for item in batch]

    broker.refuse_settles_with = 413
    broker.max_attempts = 1
    taken, refused = await broker.submit({"n": 1}, {"n": 0})
    await serve(Gives(), batch_size=2)
    await broker.settled()
    assert taken.ending.reason is Reason.INVALID_INPUT
    assert refused.ending.outcome is Outcome.RETRY
    assert "413" in refused.ending.message


async def test_a_fresh_token_is_used_from_then_on(broker: PretendBroker, serve, gate: Gate):
    broker.fresh_token = "second"
    (run,) = await broker.submit({})
    await serve(gate, lease_s=0.3)
    await broker.until(lambda: len(run.beats) >= 2)
    gate.open.set()
    await broker.settled()
    assert (broker.tokens[0], broker.tokens[-1]) == ("first", "second")


async def test_an_error_outside_of_the_handler_ends_the_replica_loudly(broker: PretendBroker, serve, monkeypatch):
    """A fault of our own must not become an idle worker that holds runs for ever."""

    def fails(*_: object) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(Outage, "over", fails)
    await broker.submit({})
    serving = await serve(Echo())
    with pytest.raises(BaseExceptionGroup):
        await serving.exit()


async def test_no_log_line_holds_anything_of_a_body_or_a_result(broker: PretendBroker, serve, caplog):
    class Leaks(Handler):
        def predict(self, batch):
            kind = batch[0]["kind"]
            if kind == "raise":
                raise ValueError(batch[0])
            if kind == "invalid":
                raise InvalidInput(f"bad: {batch[0]}")
            if kind == "retry":
                raise Retry(f"bad: {batch[0]}")
            return [object() if kind == "type" else batch[0]]

    runs = await broker.submit(*({"kind": kind, "s": SECRET} for kind in ("raise", "invalid", "retry", "type", "ok")))
    await serve(Leaks())
    await broker.settled()
    lines = [f"{record.getMessage()} {getattr(record, 'fields', '')} {record.exc_text}" for record in caplog.records]
    assert len([line for line in lines if line.startswith("run ended")]) >= 8
    assert not any(SECRET in line for line in lines)
    assert SECRET not in runs[0].ending.message
    assert SECRET not in runs[3].ending.message
    assert SECRET in runs[1].ending.message  # what the handler says to the submitter
