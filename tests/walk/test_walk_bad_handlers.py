"""What bad handlers get: their own run fails and says why; no other run is lost, changed or charged."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from walking import ECHO, Walk, until

NEIGHBOURS = 6


async def mixed(walk: Walk, app: str, bad: object, good: int = NEIGHBOURS) -> tuple[object, list[object]]:
    """Submit a bad input among good ones, all in line before a worker looks; gives the answers."""
    await walk.wish(app, "pause")
    inputs = [{"n": n} for n in range(good)]
    inputs.insert(good // 2, bad)
    tickets = [await walk.submit(app, item) for item in inputs]
    await walk.wish(app, "resume")
    answers = await asyncio.gather(*(walk.poll(app, one.ticket, wait=40) for one in tickets))
    return answers.pop(good // 2), answers


BAD_INPUTS = {
    "raises": ("raise RuntimeError('secret')", "HANDLER_ERROR"),
    "exits": ("sys.exit(3)", "HANDLER_ERROR"),
    "wrong-type": ("return 7", "HANDLER_ERROR"),
    "wrong-length": ("return batch[1:]", "HANDLER_ERROR"),
    "recurses": ("self.predict(batch)", "HANDLER_ERROR"),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
@pytest.mark.parametrize("size", [1, 8])
async def test_one_bad_item_fails_alone(walk: Walk, kind: str, size: int) -> None:
    deed, code = BAD_INPUTS[kind]
    source = f"""
    def predict(self, batch):
        if any("bad" in item for item in batch):
            {deed}
        for item in batch:
            note(f"answered {{item['n']}}")
        return batch
    """
    await walk.app(source=source, worker=f"{{ batchSize: {size} }}", retry="{ maxAttempts: 1 }")
    failed, answers = await mixed(walk, "echo", {"bad": True})
    problem = failed.problem(500, code)
    assert problem["retryable"] is False
    assert "secret" not in problem["detail"]
    assert [answer.json() for answer in answers] == [{"n": n} for n in range(NEIGHBOURS)]
    assert sorted(walk.journal) == [f"answered {n}" for n in range(NEIGHBOURS)]
    assert len(await walk.workers(live=False)) == 1  # none of it ended the worker


async def test_an_exception_in_an_items_place_fails_that_item(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        return [InvalidInput("send a number") if "bad" in item else item for item in batch]
    """
    await walk.app(source=source, worker="{ batchSize: 8 }")
    failed, answers = await mixed(walk, "echo", {"bad": True})
    assert failed.problem(422, "INVALID_INPUT")["detail"] == "send a number"
    assert [answer.status for answer in answers] == [200] * NEIGHBOURS


async def test_a_failing_run_is_tried_as_often_as_its_app_says_with_growing_pauses(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        note("tried")
        raise RuntimeError("no")
    """
    await walk.app(source=source, retry="{ maxAttempts: 3, backoffSeconds: 0.2 }")
    failed = await walk.infer("echo", {"n": 1})
    failed.problem(500, "ATTEMPTS_EXHAUSTED")
    assert walk.journal == ["tried"] * 3
    attempts = await walk.platform.ledger.attempts(failed.run_id)
    pauses = [later.leased_at - (one.finished_at or 0.0) for one, later in pairwise(attempts)]
    assert pauses[0] >= 0.2
    assert pauses[1] >= 0.4
    assert (await walk.record(failed.run_id))["failures"] == 3


async def test_a_handler_may_say_when_to_try_again(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if current_run().epoch == 1:
            raise Retry("the model server is busy", after=0.3)
        return batch
    """
    await walk.app(source=source, retry="{ backoffSeconds: 60 }")
    done = await walk.infer("echo", {"n": 1})
    assert done.status == 200
    first, second = await walk.platform.ledger.attempts(done.run_id)
    assert 0.3 <= second.leased_at - (first.finished_at or 0.0) < 10


@pytest.mark.parametrize(
    "text",
    ["import nothing_of_this_name", "raise SystemExit(1)", "def predict(:", "Model = 7", "pass"],
    ids=["import", "exit", "syntax", "no-handler", "no-class"],
)
async def test_a_handler_that_can_not_be_loaded_holds_its_app_and_keeps_its_runs(walk: Walk, text: str) -> None:
    path = walk.path / "broken.py"
    path.write_text(text)
    await walk.app("neighbour", ECHO)
    await walk.apply("echo", walk.spec_of("echo", str(path)))
    ticket = await walk.submit("echo", {"n": 1})

    async def held() -> bool:
        return bool((await walk.ask("GET", "/v1/apps/echo")).json()["phase"] == "Held")

    await until(held)
    assert (await walk.infer("neighbour", {"n": 1})).status == 200
    assert (await walk.poll("echo", ticket.ticket, wait=0)).json()["state"] == "QUEUED"
    await walk.app("echo", ECHO)  # a better handler gets a chance at once
    assert (await walk.poll("echo", ticket.ticket)).status == 200
    assert await walk.charged(ticket.run_id) == 0


async def test_a_run_that_hangs_past_its_deadline_ends_and_frees_its_worker(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if "hang" in batch[0]:
            note("hangs")
            hold("never")
        return batch
    """
    await walk.app(source=source, deadlines="{ runDeadlineSeconds: 0.5, leaseSeconds: 5 }")
    hung = await walk.submit("echo", {"hang": True})
    await walk.noted("hangs")
    behind = await walk.submit("echo", {"n": 1})
    (await walk.poll("echo", hung.ticket)).problem(504, "DEADLINE_EXCEEDED")
    assert (await walk.poll("echo", behind.ticket)).json() == {"n": 1}
    assert walk.journal == ["hangs"]
    assert await walk.charged(behind.run_id) == 0


async def test_one_that_hangs_in_a_micro_batch_is_found_and_ends_alone(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if any("bad" in item for item in batch):
            hold("never")
        return batch
    """
    deadlines = "{ runDeadlineSeconds: 0.5, leaseSeconds: 5 }"
    await walk.app(source=source, worker="{ batchSize: 4 }", deadlines=deadlines)
    hung, answers = await mixed(walk, "echo", {"bad": True}, good=3)
    hung.problem(504, "DEADLINE_EXCEEDED")
    assert [answer.status for answer in answers] == [200] * 3


async def test_a_handler_that_fills_its_memory_fails_its_run_and_serves_the_next(walk: Walk) -> None:
    source = """
    def load(self):
        import resource
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))

    def predict(self, batch):
        if "fill" in batch[0]:
            hoard = [bytearray(2**24) for _ in range(1000)]
        return batch
    """
    await walk.app(source=source, retry="{ maxAttempts: 1 }")
    problem = await walk.refused("echo", {"fill": True}, 500, "HANDLER_ERROR")
    assert "MemoryError" in problem["detail"]
    assert (await walk.infer("echo", {"n": 1})).status == 200


async def test_an_input_that_kills_its_worker_is_poison_and_its_neighbours_live(walk: Walk) -> None:
    source = """
    def predict(self, batch):
        if any("bad" in item for item in batch):
            note(f"dies with {len(batch)}")
            os.kill(os.getpid(), 9)
        return batch
    """
    await walk.app(source=source, worker="{ batchSize: 8 }", retry="{ maxAttempts: 2 }")
    poison, answers = await mixed(walk, "echo", {"bad": True})
    poison.problem(500, "POISON")
    assert [answer.status for answer in answers] == [200] * NEIGHBOURS
    assert walk.journal == [f"dies with {NEIGHBOURS + 1}", "dies with 1", "dies with 1"]
    for answer in answers:
        assert await walk.charged(answer.run_id) == 0
    assert (await walk.ask("GET", "/v1/apps/echo")).json()["phase"] != "Held"  # a poisonous input closes no app


@pytest.mark.parametrize("how", ["os._exit(3)", "os._exit(0)", "os.abort()"])
async def test_a_handler_that_ends_its_process_is_poison_too(walk: Walk, how: str) -> None:
    source = f"""
    def predict(self, batch):
        if "bad" in batch[0]:
            note("ends")
            {how}
        return batch
    """
    await walk.app(source=source, retry="{ maxAttempts: 2 }")
    bad = await walk.infer("echo", {"bad": True}, wait=30)
    bad.problem(500, "POISON")
    assert walk.journal == ["ends", "ends"]
    assert (await walk.infer("echo", {"n": 1})).status == 200
