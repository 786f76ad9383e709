import asyncio

import pytest

from penstock.model.ids import Clock
from penstock.run.clock import SystemClock
from penstock.testing.clock import ManualClock, seeded


def test_time_stands_still_until_it_is_advanced():
    clock = ManualClock(start=100.0)
    assert (clock.now(), clock.now(), clock.monotonic()) == (100.0, 100.0, 0.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 2.5)


def test_time_never_goes_backwards_but_the_wall_clock_may_jump():
    clock = ManualClock(start=100.0)
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)
    clock.jump(-50)
    assert (clock.now(), clock.monotonic()) == (50.0, 0.0)


async def test_sleepers_wake_in_the_order_of_their_times():
    clock, woken = ManualClock(), []

    async def sleeper(name, seconds):
        await clock.sleep(seconds)
        woken.append(name)

    tasks = [asyncio.create_task(sleeper(name, s)) for name, s in [("late", 3), ("soon", 1), ("never", 9)]]
    await clock.asleep(3)
    assert clock.sleeping == 3
    await clock.asleep(2)
    clock.advance(0.5)
    await asyncio.sleep(0)
    assert woken == []
    clock.advance(2.5)
    await asyncio.sleep(0)
    assert woken == ["soon", "late"]
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.sleeping == 0
    clock.advance(100)  # a cancelled sleeper is no trouble later


def test_seeded_bytes_repeat_and_differ_by_seed_and_call():
    one, same, other = seeded(1), seeded(1), seeded(2)
    first, second = one(16), one(16)
    assert (same(16), same(16)) == (first, second)
    assert first != second
    assert other(16) != first
    assert [len(seeded("x")(n)) for n in (0, 1, 10, 1000)] == [0, 1, 10, 1000]


def test_the_machines_clock_is_one():
    clock: Clock = SystemClock()
    assert clock.now() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()
