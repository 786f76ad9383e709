"""What survives: a restart, a kill -9 right after an acknowledgement, a second opener, a cancelled caller."""

from __future__ import annotations

import asyncio
import itertools
import sys
from contextlib import suppress

import pytest

from penstock.errors import Misconfigured
from penstock.ledger import Ledger, open_ledger
from penstock.ledger.commands import Accept, Accepted, NewRun, RunFilter
from penstock.model.ids import run_id
from penstock.model.run import Lane, Outcome, Payload, State
from penstock.testing.clock import ManualClock
from penstock.testing.suites.ledger.scene import APP, LedgerStage, Scene

__all__ = ["DurabilityCases"]


class DurabilityCases:
    """An acknowledged write is there, whatever happens next."""

    async def test_everything_survives_a_restart(self, scene: Scene) -> None:
        """Runs in every state, their attempts and their order."""
        _must_survive(scene.ledger)
        await scene.succeed(await scene.running("succeeded"))
        await scene.fail(await scene.running("failed"))
        await scene.report(await scene.running("waiting"), Outcome.RETRY)
        await scene.running("running")
        await scene.submitted("queued", "queued too")
        before = await scene.ledger.runs(RunFilter())
        attempts = [await scene.ledger.attempts(run.id) for run in before]
        await scene.reopen()
        assert await scene.ledger.runs(RunFilter()) == before
        assert [await scene.ledger.attempts(run.id) for run in before] == attempts
        assert [run.key for run in await scene.leased(5, worker="w-2")] == ["queued", "queued too"]
        assert (await scene.submit("newest")).run.seq > max(run.seq for run in before)

    async def test_what_was_acknowledged_survives_kill_9(self, stage: LedgerStage) -> None:
        """A process that is killed right after it acknowledged has lost nothing that it acknowledged."""
        ledger = stage.ledger()
        _must_survive(ledger)
        acknowledged = await _killed_while_writing(stage.url, after=40)
        async with ledger:
            for run_id in acknowledged:
                run = await ledger.run(run_id)
                assert run is not None, f"{run_id} was acknowledged and is gone"
                assert run.state is State.QUEUED
            counted = sum(count.queued for count in await ledger.lanes())
            assert counted == len(await ledger.runs(RunFilter(limit=100_000))) >= len(acknowledged)

    async def test_a_second_writer_is_refused(self, stage: LedgerStage) -> None:
        """Where one process owns the ledger, another that opens it is told so, and the first goes on."""
        async with stage.ledger() as ledger:
            if ledger.features.many_processes or not ledger.features.survives_restart:
                pytest.skip("this ledger has no single owner")
            second = stage.ledger()
            with pytest.raises(Misconfigured):
                await second.open()
            assert await ledger.run("nothing") is None
        async with second:
            assert await second.run("nothing") is None

    async def test_open_twice_is_open_and_close_twice_is_close(self, stage: LedgerStage) -> None:
        """A second one does nothing."""
        ledger = stage.ledger()
        await ledger.open()
        await ledger.open()
        assert await ledger.now() == stage.clock.now()
        await ledger.close()
        await ledger.close()

    async def test_close_writes_what_is_in_line(self, scene: Scene) -> None:
        """Nobody who asked before the close is left without an answer."""
        asked = [asyncio.ensure_future(scene.submit(key)) for key in "abc"]
        await asyncio.sleep(0)
        await scene.ledger.close()
        assert [(await one).how for one in asked] == ["created"] * 3
        scene.ledger = scene.stage.ledger()
        await scene.ledger.open()

    async def test_a_cancelled_caller_does_not_cancel_its_group(self, scene: Scene) -> None:
        """A client that hangs up cancels nothing: not its neighbours' writes, nor its own once it is in line."""
        proposal = scene.proposal("mine")
        mine = asyncio.ensure_future(scene.ledger.accept(Accept(run=proposal)))
        other = asyncio.ensure_future(scene.submit("other"))
        await asyncio.sleep(0)
        mine.cancel()
        assert (await other).how == "created"
        with suppress(asyncio.CancelledError):
            await mine
        assert (await scene.run(proposal.id)).state is State.QUEUED


def _must_survive(ledger: Ledger) -> None:
    if not ledger.features.survives_restart:
        pytest.skip("this ledger does not survive a restart")


async def _killed_while_writing(url: str, after: int) -> list[str]:
    """Start a process that accepts without end, kill it after so many acknowledgements; gives the ids it told."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, url, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    told: list[str] = []
    try:
        while len(told) < after:
            line = await process.stdout.readline()
            assert line, "the writer ended by itself"
            told.append(line.decode().strip())
    finally:
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
    whole = rest.rpartition(b"\n")[0]  # a line that the kill cut short was not told
    return told + whole.decode().split()


async def _accept_without_end(url: str) -> None:
    """Accept runs, four at a time, and print each id once it is acknowledged."""
    async with open_ledger(url, clock=ManualClock()) as ledger:
        for number in itertools.count():
            accepted = await asyncio.gather(*(_submit(ledger, 4 * number + extra) for extra in range(4)))
            for one in accepted:
                sys.stdout.write(f"{one.run.id}\n")
            sys.stdout.flush()


async def _submit(ledger: Ledger, number: int) -> Accepted:
    body = Payload(inline=b"x", size=1)
    run = NewRun(
        id=run_id(number, b"kill nine!"),
        tenant="acme",
        app=APP,
        lane=Lane.INFER,
        key=f"k{number}",
        spec_generation=1,
        body=body,
        sha256="",
    )
    return await ledger.accept(Accept(run=run))


if __name__ == "__main__":
    asyncio.run(_accept_without_end(sys.argv[1]))
