"""A state machine that does the same things to a queue driver and to the memory queue, and compares what comes of them.

class MyQueueMachine(QueueMachine):
    def make(self, clock: ManualClock) -> Driver: ...  # on the same queues each time, not open yet

TestMyQueueMachine = MyQueueMachine.TestCase
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.queue.driver import Driver, Message
from penstock.queue.memory import MemoryQueue
from penstock.testing.clock import ManualClock

__all__ = ["QueueMachine"]

T = TypeVar("T")
QUEUES: Final = st.sampled_from(("one-infer", "one-batch"))


class QueueMachine(RuleBasedStateMachine):
    """Sends, receives, acknowledges, restarts and lets time pass, on the driver that `make` gives and on the model.

    The order of messages is not promised, so what is compared is how many come, and that none is with two receivers.
    """

    visibility_s: ClassVar[float] = 30.0

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._clock = ManualClock()
        self._model = MemoryQueue(self._clock, self.visibility_s)
        self._driver = self.make(self._clock)
        self._sent = 0
        self._live: set[str] = set()  # bodies sent and not acknowledged
        self._held: dict[str, tuple[Message, Message, float]] = {}  # by body: as received here and in the model; until
        self._done: list[Message] = []
        self._run(self._model.open())
        self._run(self._driver.open())

    @abstractmethod
    def make(self, clock: ManualClock) -> Driver:
        """Give a driver that is not open yet, on the same queues whenever it is called for one machine."""

    def teardown(self) -> None:
        """Close both."""
        self._run(self._driver.close())
        self._run(self._model.close())
        self._runner.close()

    @rule(queue=QUEUES, count=st.integers(1, 5))
    def send(self, queue: str, count: int) -> None:
        """Send messages of bodies never used before."""
        bodies = [str(self._sent + number) for number in range(count)]
        self._sent += count
        self._live.update(bodies)
        self._run(self._model.send(queue, bodies))
        self._run(self._driver.send(queue, bodies))

    @rule(queue=QUEUES, limit=st.integers(1, 6))
    def receive(self, queue: str, limit: int) -> None:
        """Receive what is ready."""
        wanted = self._run(self._model.receive(queue, limit, 0.0))
        found = self._run(self._driver.receive(queue, limit, 0.0))
        assert len(found) == len(wanted)
        for message, pair in zip(found, wanted, strict=True):
            assert message.queue == queue
            assert message.body in self._live, "it was acknowledged, or never sent"
            assert message.body not in self._held, "another receiver has it"
            self._held[message.body] = (message, pair, self._clock.monotonic() + self.visibility_s)

    @precondition(lambda self: self._held)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        """Acknowledge some of what is held."""
        bodies = data.draw(st.lists(st.sampled_from(sorted(self._held)), unique=True, min_size=1))
        held = [self._held.pop(body) for body in bodies]
        self._live.difference_update(bodies)
        self._done += [message for message, _, _ in held]
        self._run(self._model.ack([pair for _, pair, _ in held]))
        self._run(self._driver.ack([message for message, _, _ in held]))

    @precondition(lambda self: self._done)
    @rule(data=st.data())
    def ack_again(self, data: st.DataObject) -> None:
        """Acknowledge what was acknowledged before."""
        self._run(self._driver.ack([data.draw(st.sampled_from(self._done))]))

    @rule(share=st.sampled_from((0.1, 0.5, 1.0)))
    def wait(self, share: float) -> None:
        """Let time pass; what is held too long may come again."""
        self._clock.advance(self.visibility_s * share)
        now = self._clock.monotonic()
        self._held = {body: held for body, held in self._held.items() if held[2] > now}

    @precondition(lambda self: self._driver.features.survives_restart)
    @rule()
    def restart(self) -> None:
        """Open the same queues anew."""
        self._run(self._driver.close())
        self._driver = self.make(self._clock)
        self._run(self._driver.open())

    @invariant()
    def no_message_is_lost(self) -> None:
        """Both have the same depth."""
        depths = [
            sum(self._run(each.depth(queue)) for queue in ("one-infer", "one-batch"))
            for each in (self._driver, self._model)
        ]
        assert depths == [len(self._live)] * 2

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)
