"""What a process that does not lead says of apps: the same words that the leader wrote."""

from __future__ import annotations

import pytest

from penstock.model.app import App, DesiredState
from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import AppEvent, Phase
from penstock.placement.afar import PHASE_CHANGED, Afar, told
from penstock.placement.status import at_rest

APP = App(name="echo", handler="a:B")


class Book:
    """A ledger's events and workers."""

    def __init__(self):
        self.told = []
        self.crew = []

    def tell(self, message, kind=PHASE_CHANGED, app="echo"):
        self.told.append(AppEvent(id=len(self.told) + 1, app=app, at=1.0, kind=kind, message=message))

    async def events(self, *, after, limit):
        return [event for event in self.told if event.id > after][:limit]

    async def workers(self, *, limit):
        return self.crew[:limit]


@pytest.fixture
def book():
    return Book()


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("message", ["", "no room: try -> later", "2 starting"])
async def test_each_phase_comes_across_with_its_message(book, phase, message):
    book.tell(told(Phase.READY, phase, message))
    afar = Afar(book)
    await afar.look()
    status = afar.status(APP)
    assert (status.phase, status.message) == (phase, message)


async def test_the_last_word_counts_and_what_is_no_phase_is_passed_over(book):
    afar = Afar(book)
    book.tell(told(Phase.READY, Phase.HELD, "no room"))
    await afar.look()
    book.tell("Sleeping: of a newer version")
    book.tell("Ready", kind="ScaledUp")
    book.tell("Scaling", app="other")
    await afar.look()
    assert afar.status(APP).phase is Phase.HELD
    book.tell(told(Phase.HELD, Phase.READY, ""))
    await afar.look()
    assert afar.status(APP).phase is Phase.READY


async def test_an_operators_wish_counts_before_what_was_told(book):
    book.tell(told(Phase.READY, Phase.SCALING, "1 starting"))
    afar = Afar(book)
    await afar.look()
    paused = App(name="echo", handler="a:B", desired_state=DesiredState.PAUSED)
    assert afar.status(paused).phase is Phase.PAUSED


async def test_workers_are_counted_by_state(book):
    states = ["STARTING", "IDLE", "BUSY", "BUSY", "DRAINING"]
    book.crew = [
        Worker(uid=f"w-{number}", app="echo", spec_generation=1, state=WorkerState(state))
        for number, state in enumerate(states)
    ]
    afar = Afar(book)
    assert afar.status(APP) == at_rest(APP)
    await afar.look()
    status = afar.status(APP)
    assert (status.live, status.starting, status.idle, status.busy, status.draining) == (5, 1, 1, 2, 1)
    assert status.desired == 4


async def test_more_events_than_a_page_are_all_read(book):
    for number in range(2500):
        book.tell(told(Phase.READY, Phase.HELD, str(number)))
    afar = Afar(book)
    await afar.look()
    assert afar.status(APP).message == "2499"
