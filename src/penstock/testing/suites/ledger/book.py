"""Counters and lists, decisions and events, the audit, leaderships and pins."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from penstock.ledger.chain import FIRST, broken_at
from penstock.ledger.commands import Answer, Audit, KeepPin, Lead, Pin, Remember, RunFilter, TakeLead, TakePin
from penstock.model.placement import AppEvent, Code, Decision, Drop
from penstock.model.run import Lane, Outcome, Reason, State
from penstock.testing.suites.ledger.scene import APP, Scene

__all__ = ["BookCases"]


class BookCases:
    """What is written beside the runs, and what can be asked."""

    # ---------------------------------------------------------------- counters and lists

    async def test_counters_follow_every_step(self, scene: Scene) -> None:
        """Queued, in line, running, totals, service time, the oldest."""
        began = scene.clock.now()
        await scene.submitted("a", "b", "c", "d")
        scene.clock.advance(2.0)
        first, second, _ = await scene.leased(3)
        scene.clock.advance(4.0)
        await scene.succeed(first)
        await scene.report(second, Outcome.RETRY)
        (count,) = await scene.ledger.lanes()
        assert (count.app, count.lane) == (APP, Lane.INFER)
        assert (count.queued, count.in_line, count.running) == (2, 1, 1)
        assert (count.leased_total, count.settled_total, count.service_seconds) == (3, 2, 8.0)
        assert count.oldest_queued_at == began

    async def test_counters_survive_a_restart(self, scene: Scene) -> None:
        """What is counted is stored."""
        if not scene.ledger.features.survives_restart:
            return
        await scene.submitted("a", "b", "c", tenant="x")
        await scene.submitted("a", "b", lane=Lane.BATCH)
        await scene.succeed((await scene.leased(2))[0])
        before = await scene.ledger.lanes()
        await scene.reopen()
        assert await scene.ledger.lanes() == before

    async def test_lists_are_newest_first_and_without_bytes(self, scene: Scene) -> None:
        """A page goes on after the last one seen."""
        runs = await scene.submitted("a", "b", "c", "d", "e")
        first = await scene.ledger.runs(RunFilter(limit=2))
        rest = await scene.ledger.runs(RunFilter(limit=9, after=first[-1].seq))
        assert [run.key for run in [*first, *rest]] == ["e", "d", "c", "b", "a"]
        assert first[0] == replace(runs[-1], body=replace(runs[-1].body, inline=None))

    async def test_lists_are_filtered(self, scene: Scene) -> None:
        """By each field alone, and by several together."""
        await scene.submit("a", tenant="x", app="one", tag="t", parent="p/1")
        await scene.submit("b", tenant="y", app="two", lane=Lane.BATCH)
        scene.clock.advance(10.0)
        middle = scene.clock.now()
        await scene.submit("c", tenant="x", app=APP)
        await scene.fail((await scene.leased())[0], Reason.INVALID_INPUT)
        await scene.running("d", tenant="x")
        wanted = {
            RunFilter(tenant="x"): "dca",
            RunFilter(app="two"): "b",
            RunFilter(tenant="x", app=APP): "dc",
            RunFilter(state=State.FAILED): "c",
            RunFilter(state=State.RUNNING): "d",
            RunFilter(state=State.QUEUED): "ba",
            RunFilter(reason=Reason.INVALID_INPUT): "c",
            RunFilter(tag="t"): "a",
            RunFilter(parent="p/1"): "a",
            RunFilter(lane=Lane.BATCH): "b",
            RunFilter(since=middle): "dc",
            RunFilter(tenant="x", state=State.FAILED, since=middle): "c",
            RunFilter(tenant="nobody"): "",
        }
        for question, keys in wanted.items():
            assert "".join(run.key for run in await scene.ledger.runs(question)) == keys, question

    # ---------------------------------------------------------------- decisions and events

    async def test_decisions_are_explained(self, scene: Scene) -> None:
        """Newest first, numbered by the ledger, whole."""
        made = [
            Decision(
                app=APP,
                spec_generation=1,
                made_at=float(number),
                chosen="pool/a",
                workers=("w-1",),
                survivors=("vm/b",),
                dropped={"k8s/c": Drop(Code.STOCKED_OUT, "no A100")},
                notes=("n",),
                facts={"f": "1"},
            )
            for number in range(3)
        ]
        await scene.ledger.remember(Remember(decisions=tuple(made)))
        await scene.ledger.remember(Remember(decisions=(replace(made[0], app="other"),)))
        kept = await scene.ledger.decisions(APP)
        assert [replace(one, id=0) for one in kept] == made[::-1]
        assert [one.id for one in kept] == sorted({one.id for one in kept}, reverse=True)
        assert len(await scene.ledger.decisions(APP, limit=2)) == 2

    async def test_events_are_read_on_from_an_id(self, scene: Scene) -> None:
        """Oldest first from there; without an id the latest; of one app or of all."""
        for number in range(5):
            event = AppEvent(
                app=APP if number % 2 else "other",
                at=float(number),
                kind="ScaledUp",
                message=str(number),
                worker_uid="w",
            )
            await scene.ledger.remember(Remember(events=(event,)))
        latest = await scene.ledger.events(limit=2)
        assert [event.message for event in latest] == ["3", "4"]
        assert [event.message for event in await scene.ledger.events(APP)] == ["1", "3"]
        every = await scene.ledger.events()
        onward = await scene.ledger.events(after=every[1].id)
        assert [event.message for event in onward] == ["2", "3", "4"]
        assert onward[0] == AppEvent(id=every[2].id, app="other", at=2.0, kind="ScaledUp", message="2", worker_uid="w")

    async def test_the_book_is_bounded(self, scene: Scene) -> None:
        """The last thousand or so of an app are kept, and every one of a quieter app."""
        quiet = AppEvent(app="quiet", at=0.0, kind="Applied", message="")
        await scene.ledger.remember(Remember(events=(quiet,)))
        loud = replace(quiet, app="loud")
        for _ in range(5):
            await scene.ledger.remember(Remember(events=(loud,) * 500))
        assert 1000 <= len(await scene.ledger.events("loud", limit=10_000)) <= 1100
        assert len(await scene.ledger.events("quiet")) == 1

    # ---------------------------------------------------------------- audit

    async def test_the_audit_is_one_chain(self, scene: Scene) -> None:
        """Over groups and restarts; each row hangs on the one before."""
        await asyncio.gather(*(self._audit(scene, f"act{number}") for number in range(5)))
        if scene.ledger.features.survives_restart:
            await scene.reopen()
        await self._audit(scene, "last", tenant="umbrella")
        rows = await scene.ledger.audited(after=0)
        assert [row.action for row in rows] == [*(f"act{number}" for number in range(5)), "last"]
        assert [row.id for row in rows] == [1, 2, 3, 4, 5, 6]
        assert rows[0].previous == FIRST
        assert broken_at(rows) is None
        assert [row.action for row in await scene.ledger.audited(tenant="umbrella")] == ["last"]
        assert broken_at(await scene.ledger.audited(after=3), before=rows[2].hash) is None

    async def test_a_changed_row_breaks_the_chain(self, scene: Scene) -> None:
        """Whatever was changed, added or taken out is found at its place."""
        for number in range(4):
            await self._audit(scene, f"act{number}")
        rows = await scene.ledger.audited()
        for name in ("at", "tenant", "subject", "action", "object", "result", "reason", "request_id"):
            forged = replace(rows[1], **{name: 7.0 if name == "at" else "forged"})
            assert broken_at([rows[0], forged, *rows[2:]]) == 2
        assert broken_at([rows[0], *rows[2:]]) == 3

    # ---------------------------------------------------------------- leaderships

    async def test_one_leads(self, scene: Scene) -> None:
        """Of those who ask at once one holds it; it renews under the same term."""
        first, second = await asyncio.gather(self._lead(scene, "a"), self._lead(scene, "b"))
        assert (first.held, second.held) == (True, False)
        assert (second.holder, second.term) == ("a", first.term)
        scene.clock.advance(5.0)
        renewed = await self._lead(scene, "a")
        assert (renewed.held, renewed.term, renewed.until) == (True, first.term, scene.clock.now() + 8.0)

    async def test_a_lapsed_lead_passes_on_under_a_new_term(self, scene: Scene) -> None:
        """So that a deposed leader's acts can be refused."""
        first = await self._lead(scene, "a")
        scene.clock.advance(8.0)
        taken = await self._lead(scene, "b")
        assert (taken.held, taken.term) == (True, first.term + 1)
        assert not (await self._lead(scene, "a")).held

    async def test_leads_have_names(self, scene: Scene) -> None:
        """One name's holder does not hold another's."""
        await self._lead(scene, "a")
        assert (await scene.ledger.take_lead(TakeLead(name="other", holder="b"))).held

    # ---------------------------------------------------------------- pins

    async def test_a_pin_is_fresh_once_then_repeats_its_answer(self, scene: Scene) -> None:
        """In between it is busy; another payload is a mismatch."""
        pin = Pin("acme PUT /apps", "once", "f1")
        answer = Answer(201, b"{}", "application/json")
        assert (await scene.ledger.take_pin(TakePin(pin=pin))).how == "fresh"
        assert (await scene.ledger.take_pin(TakePin(pin=pin))).how == "busy"
        await scene.ledger.keep_pin(KeepPin(pin=pin, answer=answer))
        kept = await scene.ledger.take_pin(TakePin(pin=pin))
        assert (kept.how, kept.answer) == ("answer", answer)
        assert (await scene.ledger.take_pin(TakePin(pin=replace(pin, fingerprint="f2")))).how == "mismatch"

    async def test_a_dropped_pin_may_be_tried_again(self, scene: Scene) -> None:
        """A request that failed for our sake leaves no answer behind."""
        pin = Pin("s", "once", "f1")
        await scene.ledger.take_pin(TakePin(pin=pin))
        await scene.ledger.keep_pin(KeepPin(pin=pin, answer=None))
        assert (await scene.ledger.take_pin(TakePin(pin=pin))).how == "fresh"

    async def test_a_busy_pin_is_free_again_after_a_minute(self, scene: Scene) -> None:
        """Whoever reserved it has died; an answer is kept for a day."""
        pin = Pin("s", "once", "f1")
        await scene.ledger.take_pin(TakePin(pin=pin))
        scene.clock.advance(60.0)
        assert (await scene.ledger.take_pin(TakePin(pin=pin))).how == "fresh"
        await scene.ledger.keep_pin(KeepPin(pin=pin, answer=Answer(200, b"", "text/plain")))
        scene.clock.advance(86_399.0)
        assert (await scene.ledger.take_pin(TakePin(pin=pin))).how == "answer"
        scene.clock.advance(1.0)
        assert (await scene.ledger.take_pin(TakePin(pin=pin))).how == "fresh"

    # ---------------------------------------------------------------- words of these cases

    async def _audit(self, scene: Scene, action: str, tenant: str = "acme") -> None:
        await scene.ledger.audit(
            Audit(
                tenant=tenant, subject="ann", action=action, object="app/x", result="denied", reason="r", request_id="q"
            )
        )

    async def _lead(self, scene: Scene, holder: str) -> Lead:
        return await scene.ledger.take_lead(TakeLead(name="controller", holder=holder, ttl_seconds=8.0))
