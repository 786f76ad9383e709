"""Group commit: who shares a write, what each caller hears, and that nobody waits for ever."""

import asyncio

import pytest

from penstock.errors import Invalid, NotFound, Unavailable
from penstock.ledger import Ledger
from penstock.ledger.commands import Cancel, Extend
from penstock.testing.clock import ManualClock


class Recorder:
    """A driver that notes its groups, and answers each command with its own run id."""

    def __init__(self):
        self.groups = []
        self.gate = None
        self.entered = asyncio.Event()
        self.answer = lambda commands: [command.run_id for command in commands]

    async def open(self): ...

    async def close(self): ...

    async def write(self, commands):
        self.groups.append([command.run_id for command in commands])
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        return self.answer(commands)


def ledger_on(driver, **options):
    return Ledger(driver, clock=ManualClock(), **options)


def cancels(count, first=0):
    return [Cancel(run_id=str(first + number)) for number in range(count)]


async def test_what_is_asked_in_one_turn_is_one_group():
    driver = Recorder()
    ledger = ledger_on(driver)
    outcomes = await asyncio.gather(*(ledger.do(command) for command in cancels(64)))
    assert len(driver.groups) == 1
    assert outcomes == [str(number) for number in range(64)]


async def test_what_is_on_its_way_through_the_loop_joins():
    """A request that takes some turns of the loop to reach the ledger shares the write of one that is there."""
    driver = Recorder()
    ledger = ledger_on(driver)

    async def arrive(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        await ledger.do(Cancel(run_id=str(turns)))

    await asyncio.gather(*(arrive(turns) for turns in range(4)))
    assert len(driver.groups) == 1


async def test_a_loop_that_never_rests_does_not_hold_a_group_up():
    driver = Recorder()
    ledger = ledger_on(driver)
    asked = []
    done = asyncio.ensure_future(ledger.do(Cancel(run_id="first")))
    while not done.done():
        asked.append(asyncio.ensure_future(ledger.do(Cancel(run_id=str(len(asked))))))
        await asyncio.sleep(0)
        assert len(asked) < 20
    await asyncio.gather(*asked)


async def test_what_comes_during_a_write_is_the_next_group():
    driver = Recorder()
    ledger = ledger_on(driver)
    driver.gate = asyncio.Event()
    first = asyncio.ensure_future(ledger.do(Cancel(run_id="first")))
    await driver.entered.wait()
    rest = [asyncio.ensure_future(ledger.do(command)) for command in cancels(10)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert driver.groups == [["first"]]
    driver.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(group) for group in driver.groups] == [1, 10]


async def test_a_group_is_at_most_512():
    driver = Recorder()
    ledger = ledger_on(driver)
    await asyncio.gather(*(ledger.do(command) for command in cancels(1200)))
    assert [len(group) for group in driver.groups] == [512, 512, 176]


async def test_each_caller_hears_its_own_error():
    driver = Recorder()
    driver.answer = lambda commands: [
        NotFound(command.run_id) if command.run_id == "1" else command.run_id for command in commands
    ]
    ledger = ledger_on(driver)
    outcomes = await asyncio.gather(*(ledger.do(command) for command in cancels(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, NotFound, str]


async def test_nonsense_reaches_no_driver():
    driver = Recorder()
    with pytest.raises(Invalid, match=r"progress is 0\.\.1"):
        await ledger_on(driver).extend(Extend(run_id="r", epoch=1, progress=1.5))
    assert driver.groups == []


class Fails:
    """A `write` that raises so often, then works."""

    def __init__(self, times, error):
        self.left = times
        self.error = error

    def __call__(self, commands):
        if self.left:
            self.left -= 1
            raise self.error
        return [command.run_id for command in commands]


async def test_an_outage_of_a_moment_is_not_seen():
    driver = Recorder()
    driver.answer = Fails(2, Unavailable("down"))
    assert await ledger_on(driver).do(Cancel(run_id="r")) == "r"
    assert driver.groups == [["r"]] * 3


async def test_an_outage_is_everybodys():
    driver = Recorder()
    driver.answer = Fails(3, Unavailable("down for good"))
    ledger = ledger_on(driver)
    outcomes = await asyncio.gather(*(ledger.do(command) for command in cancels(5)), return_exceptions=True)
    assert [(type(one), one.detail) for one in outcomes] == [(Unavailable, "down for good")] * 5
    assert len({id(one) for one in outcomes}) == 5, "a shared exception would gather every caller's traceback"
    assert await ledger.do(Cancel(run_id="after")) == "after"


async def test_a_fault_of_the_driver_is_told_and_survived():
    driver = Recorder()
    driver.answer = Fails(1, ZeroDivisionError("a bug"))
    ledger = ledger_on(driver)
    with pytest.raises(ZeroDivisionError):
        await ledger.do(Cancel(run_id="r"))
    assert await ledger.do(Cancel(run_id="r")) == "r"


async def test_a_cancelled_caller_leaves_its_group_alone():
    driver = Recorder()
    ledger = ledger_on(driver)
    driver.gate = asyncio.Event()
    callers = [asyncio.ensure_future(ledger.do(command)) for command in cancels(3)]
    await driver.entered.wait()
    callers[1].cancel()
    await asyncio.sleep(0)
    driver.gate.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert outcomes[0] == "0"
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert outcomes[2] == "2"


async def test_close_waits_for_what_is_in_line():
    driver = Recorder()
    ledger = ledger_on(driver)
    asked = [asyncio.ensure_future(ledger.do(command)) for command in cancels(3)]
    await asyncio.sleep(0)
    await ledger.close()
    assert all(one.done() for one in asked)


async def test_a_writer_that_is_stopped_leaves_nobody_waiting():
    driver = Recorder()
    ledger = ledger_on(driver)
    driver.gate = asyncio.Event()
    asked = [asyncio.ensure_future(ledger.do(Cancel(run_id="in flight")))]
    await driver.entered.wait()
    asked.append(asyncio.ensure_future(ledger.do(Cancel(run_id="in line"))))
    await asyncio.sleep(0)
    (writer,) = (task for task in asyncio.all_tasks() if task.get_name() == "ledger-writer")
    writer.cancel()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]


async def test_groups_are_measured():
    seen = []
    driver = Recorder()
    clock = ManualClock()

    def answer(commands):
        clock.advance(0.5)
        return [NotFound("no") if command.run_id == "1" else None for command in commands]

    driver.answer = answer
    ledger = Ledger(driver, clock=clock, observer=seen.append)
    asked = [*cancels(3), Extend(run_id="x", epoch=1)]
    await asyncio.gather(*(ledger.do(command) for command in asked), return_exceptions=True)
    (written,) = seen
    assert written.kinds == {"Cancel": 3, "Extend": 1}
    assert written.failed == {"Cancel": 1}
    assert written.seconds == 0.5
