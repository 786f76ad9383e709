"""What a micro-batch becomes: one ending an item, whatever the handler does."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.model.run import Outcome, Reason
from penstock.testing.clock import ManualClock
from penstock.worker.current import CurrentRun, current_run, current_runs
from penstock.worker.ending import Limits
from penstock.worker.handler import Handler, InvalidInput, Response, Retry
from penstock.worker.local import LocalDesk
from penstock.worker.predict import Item, Predictor

SECRET = "hunter2-and-more"


def items_of(*values: Any) -> list[Item]:
    desk = LocalDesk(ManualClock())
    return [
        Item(
            value if isinstance(value, bytes) else msgspec.json.encode(value),
            "application/octet-stream" if isinstance(value, bytes) else "application/json",
            CurrentRun(desk, run_id=f"r{number}", deadline=0.0),
        )
        for number, value in enumerate(values)
    ]


async def endings(handler: Handler, *values: Any, limits: Limits | None = None) -> list[Any]:
    predictor = Predictor(handler, limits or Limits(), slots=1)
    try:
        return (await predictor.call([items_of(*values)]))[0]
    finally:
        predictor.close()


class Recorder(Handler):
    """Counts its calls; fails for what it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def predict(self, batch):
        self.calls.append(list(batch))
        for item in batch:
            if item.get("bad"):
                raise ValueError(f"cannot digest {SECRET}")
            if item.get("invalid"):
                raise InvalidInput("width must be at most 10")
            if "later" in item:
                raise Retry("warming up", after=item["later"])
            if item.get("quit"):
                raise SystemExit(3)
        return [{"ok": item["n"]} for item in batch]


class AsyncRecorder(Recorder):
    async def predict(self, batch):
        await asyncio.sleep(0)
        return Recorder.predict(self, batch)


BOTH = pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])


@BOTH
async def test_a_micro_batch_is_one_call_and_keeps_its_order(kind):
    handler = kind()
    got = await endings(handler, *({"n": n} for n in range(5)))
    assert [msgspec.json.decode(ending.result.data) for ending in got] == [{"ok": n} for n in range(5)]
    assert len(handler.calls) == 1


@BOTH
async def test_only_the_culprit_of_a_micro_batch_fails(kind):
    handler = kind()
    got = await endings(handler, *({"n": n, "bad": n == 11} for n in range(16)))
    assert [n for n, ending in enumerate(got) if ending.outcome is not Outcome.SUCCEEDED] == [11]
    assert got[11].outcome is Outcome.RETRY
    assert got[11].reason is Reason.HANDLER_ERROR
    assert len(handler.calls) == 1 + 2 * 4  # a halving for each of log2(16) levels


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["ok", "bad", "invalid", "later", "quit"]), max_size=24))
def test_bisection_gives_each_item_its_own_ending_for_any_mix(kinds):
    values = [{"n": n, kind: 1.5 if kind == "later" else True} for n, kind in enumerate(kinds)]
    wanted = {
        "ok": (Outcome.SUCCEEDED, None),
        "bad": (Outcome.RETRY, Reason.HANDLER_ERROR),
        "invalid": (Outcome.FAILED, Reason.INVALID_INPUT),
        "later": (Outcome.RETRY, Reason.HANDLER_ERROR),
        "quit": (Outcome.RETRY, Reason.HANDLER_ERROR),
    }
    if values:
        got = asyncio.run(endings(Recorder(), *values))
        assert [(ending.outcome, ending.reason) for ending in got] == [wanted[kind] for kind in kinds]


async def test_what_a_handler_says_to_the_submitter_is_kept():
    refused, later = await endings(Recorder(), {"n": 0, "invalid": True}, {"n": 1, "later": 2.5})
    assert refused.message == "width must be at most 10"
    assert (later.message, later.retry_after) == ("warming up", 2.5)


async def test_any_other_error_tells_its_type_and_place_and_never_its_text():
    (ending,) = await endings(Recorder(), {"n": 0, "bad": True})
    assert SECRET not in ending.message
    assert ending.message.startswith("ValueError < test_worker_predict.py:")
    assert "in predict" in ending.message


class Odd(BaseException):
    pass


class Mute(InvalidInput):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        Odd(),
        StopIteration(),
        Mute(),
        InvalidInput("\ud800"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("place", ["decode", "predict", "encode"])
async def test_whatever_a_handler_raises_fails_its_item_alone(error, place):
    class Raises(Handler):
        def decode(self, body, content_type):
            return self.go("decode", Handler.decode(self, body, content_type))

        def predict(self, batch):
            return [self.go("predict", item) for item in batch]

        def encode(self, output):
            return Handler.encode(self, self.go("encode", output))

        def go(self, here, item):
            if here == place and "bad" in item:
                raise error
            return item

    bad, good = await endings(Raises(), {"bad": 1}, {"n": 1})
    assert bad.outcome is (Outcome.FAILED if isinstance(error, InvalidInput) else Outcome.RETRY)
    assert bad.message.encode()
    assert good.result.body == b'{"n":1}'


async def test_an_async_handler_that_raises_what_nobody_should_fails_its_item():
    class Raises(Handler):
        async def predict(self, batch):
            raise Odd

    (bad,) = await endings(Raises(), {"n": 1})
    assert (bad.outcome, bad.reason) == (Outcome.RETRY, Reason.HANDLER_ERROR)


@pytest.mark.parametrize("response", [Response(5), Response("text"), Response(b"", None), None])
async def test_an_encoder_that_gives_no_response_is_an_error_of_the_handler(response):
    class Encodes(Handler):
        def predict(self, batch):
            return batch

        def encode(self, output):
            return response

    (bad,) = await endings(Encodes(), {"n": 1})
    assert (bad.outcome, bad.reason) == (Outcome.RETRY, Reason.HANDLER_ERROR)
    assert bad.message == "an output is no Response of bytes and a content type"


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf")])
def test_a_retry_waits_for_a_time_that_comes(after):
    with pytest.raises(ValueError, match="seconds"):
        Retry(after=after)


def test_a_note_of_any_kind_can_be_sent():
    (item,) = items_of({})
    for note in ("\ud800", b"bytes", "x" * 10**6):
        item.run.progress(0.5, note)
        assert 1 <= len(item.run.reported[1].encode()) <= 1000


async def test_an_exception_instance_fails_its_own_position():
    class Picky(Handler):
        def predict(self, batch):
            return [
                InvalidInput("no") if item["n"] == 1 else Retry(after=3) if item["n"] == 2 else item for item in batch
            ]

    first, second, third = await endings(Picky(), *({"n": n} for n in range(3)))
    assert (first.outcome, second.outcome, third.outcome) == (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRY)
    assert (second.reason, third.retry_after) == (Reason.INVALID_INPUT, 3)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([1, 2, 3], "predict gave 3 outputs for 1 inputs"),
        ([], "predict gave 0 outputs for 1 inputs"),
        (None, "predict gave a NoneType"),
        ({"a": 1, "b": 2}, "predict gave a dict"),
        ("ab", "predict gave a str"),
    ],
)
async def test_a_wrong_number_of_outputs_is_an_error_of_the_handler(answer, told):
    class Wrong(Handler):
        def predict(self, batch):
            return answer

    for ending in await endings(Wrong(), {"n": 0}, {"n": 1}):
        assert (ending.outcome, ending.reason) == (Outcome.RETRY, Reason.HANDLER_ERROR)
        assert ending.message.startswith(told)


@pytest.mark.parametrize("answer", [None, [], "all is well"])
async def test_one_input_without_an_output_costs_no_neighbour_its_own(answer):
    class Careless(Handler):
        def predict(self, batch):
            return answer if any("bad" in item for item in batch) else batch

    first, second, third = await endings(Careless(), {"n": 0}, {"bad": True}, {"n": 2})
    assert [first.outcome, second.outcome, third.outcome] == [Outcome.SUCCEEDED, Outcome.RETRY, Outcome.SUCCEEDED]


@pytest.mark.parametrize(
    ("output", "body", "kind"),
    [
        ({"a": [1]}, b'{"a":[1]}', "application/json"),
        ([1, "x"], b'[1,"x"]', "application/json"),
        ("grün", "grün".encode(), "text/plain; charset=utf-8"),
        (b"\x00\x01", b"\x00\x01", "application/octet-stream"),
        (bytearray(b"ab"), b"ab", "application/octet-stream"),
        (Response(b"<p>", "text/html"), b"<p>", "text/html"),
    ],
)
async def test_outputs_become_bytes_with_a_content_type(output, body, kind):
    class Gives(Handler):
        def predict(self, batch):
            return [output]

    (ending,) = await endings(Gives(), {})
    assert (ending.result.data, ending.result.content_type, ending.result.encoding) == (body, kind, "")


@pytest.mark.parametrize("output", [3, None, object(), {"a": object()}])
async def test_an_output_without_an_obvious_form_is_an_error_of_the_handler(output):
    class Gives(Handler):
        def predict(self, batch):
            return [output]

    (ending,) = await endings(Gives(), {})
    assert (ending.outcome, ending.reason) == (Outcome.RETRY, Reason.HANDLER_ERROR)
    assert "TypeError" in ending.message


@pytest.mark.parametrize("size", [1023, 1024, 300_000])
@BOTH
async def test_results_of_1_kib_and_more_are_compressed(size, kind):
    class Gives(kind):
        if kind is Recorder:

            def predict(self, batch):
                return [b"x" * size]
        else:

            async def predict(self, batch):
                return [b"x" * size]

    (ending,) = await endings(Gives(), {})
    assert ending.result.encoding == ("gzip" if size >= 1024 else "")
    assert ending.result.body == b"x" * size
    if size >= 1024:
        assert gzip.decompress(ending.result.data) == b"x" * size
        assert len(ending.result.data) < size


async def test_what_goes_to_the_store_is_compressed_even_when_small():
    class Gives(Handler):
        def predict(self, batch):
            return [b"x"]

    (ending,) = await endings(Gives(), {}, limits=Limits(inline=0))
    assert ending.result.encoding == "gzip"


async def test_a_result_above_the_limit_fails_the_run():
    class Gives(Handler):
        def predict(self, batch):
            return [b"x" * item["n"] for item in batch]

    fits, large = await endings(Gives(), {"n": 100}, {"n": 101}, limits=Limits(result=100))
    assert fits.outcome is Outcome.SUCCEEDED
    assert (large.outcome, large.reason) == (Outcome.FAILED, Reason.RESULT_TOO_LARGE)
    assert "101 bytes" in large.message


async def test_a_decoder_that_raises_fails_its_own_item_and_predict_never_sees_it():
    class Decodes(Recorder):
        def decode(self, body, content_type):
            if b"broken" in body:
                raise KeyError(SECRET)
            return super().decode(body, content_type)

    handler = Decodes()
    fine, broken = await endings(handler, {"n": 1}, b"broken")
    assert fine.outcome is Outcome.SUCCEEDED
    assert (broken.outcome, broken.reason) == (Outcome.RETRY, Reason.HANDLER_ERROR)
    assert SECRET not in broken.message
    assert handler.calls == [[{"n": 1}]]


async def test_a_declared_json_that_is_none_is_an_invalid_input():
    broken = items_of(b"{nope")[0]._replace(content_type="application/problem+json; charset=utf-8")
    predictor = Predictor(Recorder(), Limits(), slots=1)
    ((ending,), _) = await predictor.call([[broken]])
    predictor.close()
    assert (ending.outcome, ending.reason) == (Outcome.FAILED, Reason.INVALID_INPUT)
    assert "nope" not in ending.message


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"a":1}', "application/json", {"a": 1}),
        (b"[1]", "application/json; charset=utf-8", [1]),
        (b' \n{"a":1}', "application/x-www-form-urlencoded", {"a": 1}),
        (b"{not json", "application/octet-stream", b"{not json"),
        (b"[1]", "application/octet-stream", b"[1]"),
        (b"\xff\xfe", "image/png", b"\xff\xfe"),
        (b"", "application/octet-stream", b""),
    ],
)
def test_inputs_are_decoded_by_content_type_or_by_parsing(body, kind, value):
    assert Handler().decode(body, kind) == value


@BOTH
async def test_predict_finds_its_runs_in_the_order_of_the_batch(kind):
    seen = []

    class Looks(kind):
        if kind is Recorder:

            def predict(self, batch):
                seen.append(([run.run_id for run in current_runs()], batch))
                return batch
        else:

            async def predict(self, batch):
                await asyncio.sleep(0)
                seen.append(([run.run_id for run in current_runs()], batch))
                return batch

    await endings(Looks(), {"n": 0}, {"n": 1})
    assert seen == [(["r0", "r1"], [{"n": 0}, {"n": 1}])]
    assert current_runs() == ()


async def test_the_current_run_is_the_only_one_or_an_error_that_says_what_to_do():
    class Looks(Handler):
        def predict(self, batch):
            return [current_run().run_id] * len(batch)

    (one,) = await endings(Looks(), {})
    assert one.result.data == b"r0"
    with pytest.raises(LookupError, match="inside predict"):
        current_run()

    class Many(Handler):
        def predict(self, batch):
            with pytest.raises(LookupError, match=r"current_runs\(\)\[i\]"):
                current_run()
            return batch

    assert [ending.outcome for ending in await endings(Many(), {}, {})] == [Outcome.SUCCEEDED] * 2


async def test_something_cancelled_within_an_async_handler_is_its_own_error():
    class Cancels(Handler):
        async def predict(self, batch):
            raise asyncio.CancelledError

    (ending,) = await endings(Cancels(), {})
    assert (ending.outcome, ending.reason) == (Outcome.RETRY, Reason.HANDLER_ERROR)


async def test_cancelling_the_call_of_an_async_handler_ends_it():
    started = asyncio.Event()

    class Waits(Handler):
        async def predict(self, batch):
            started.set()
            await asyncio.Event().wait()

    predictor = Predictor(Waits(), Limits(), slots=1)
    call = asyncio.create_task(predictor.call([items_of({})]))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    predictor.close()


async def test_items_that_nobody_wants_are_not_predicted_any_more():
    handler = Recorder()
    items = items_of({"n": 0}, {"n": 1})
    for item in items:
        item.run.cancel()
    predictor = Predictor(handler, Limits(), slots=1)
    got, _ = await predictor.call([items])
    predictor.close()
    assert handler.calls == []
    assert {ending.outcome for ending in got} == {Outcome.RELEASED}


@pytest.mark.parametrize(("said", "healthy"), [(None, True), (True, True), (False, False), (RuntimeError("x"), False)])
async def test_health_is_false_or_raising(said, healthy):
    class Says(Handler):
        def health(self):
            if isinstance(said, Exception):
                raise said
            return said

    predictor = Predictor(Says(), Limits(), slots=1)
    assert await predictor.healthy() is healthy
    predictor.close()


async def test_load_and_predict_share_a_thread_so_thread_bound_libraries_work():
    import threading

    class Threads(Handler):
        def load(self):
            self.thread = threading.current_thread()

        def predict(self, batch):
            return [{"same": threading.current_thread() is self.thread}]

    predictor = Predictor(Threads(), Limits(), slots=1)
    await predictor.load()
    ((ending,), _) = await predictor.call([items_of({})])
    predictor.close()
    assert ending.result.data == b'{"same":true}'
