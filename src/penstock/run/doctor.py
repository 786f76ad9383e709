"""`penstock doctor`: every configured backend is really used, and says what it promises to keep."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click
import msgspec

from penstock.cli.command import translated
from penstock.cli.output import Format, as_json, output_option
from penstock.cli.session import Session, say
from penstock.errors import Misconfigured, PenstockError, Unavailable

from .settings import Settings, masked, read_settings

if TYPE_CHECKING:
    from penstock.compute import Compute
    from penstock.model.ids import Clock

__all__ = ["Finding", "Verdict", "doctor", "examine"]

_LIMIT_S: Final = 30.0
_PROBE: Final = "penstock-doctor"
_MARKS: Final = {"ok": "green", "failed": "red", "in use": "yellow"}


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    FAILED = "failed"
    IN_USE = "in use"  # another process of ours has it, so it can't be tried from here


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One backend: where it is, whether it works, how long the trial took in milliseconds, what it promises."""

    part: str
    where: str
    verdict: Verdict
    took_ms: float
    promise: str = ""
    detail: str = ""


class _Patient(NamedTuple):
    """A backend that is to be examined: the trial uses it, and gives its promise."""

    part: str
    where: str
    trial: Callable[[], Awaitable[str]]


@click.command()
@click.option("--state", type=click.Path(file_okay=False), help="The folder that keeps everything.")
@click.option(
    "--settings", "file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="A settings file."
)
@output_option(Format.TABLE, Format.JSON)
@click.pass_obj
def doctor(session: Session, /, state: str | None, file: Path | None, form: Format) -> None:
    """Use every configured backend for real, and say what each promises to keep.

    The ledger is written and read, the queue carries a message, the store writes, reads and deletes an object, and a
    worker process is started and seen to end. Exit code 1 if one of them fails.
    """
    settings = translated(lambda: read_settings(session.environ, file=file, flags={"state": state}))
    findings = asyncio.run(examine(settings, dict(session.environ)))
    if form is Format.JSON:
        click.echo(as_json(findings))
    else:
        for finding in findings:
            _print(finding, colours=session.colours)
    _conclude(findings, settings)


async def examine(settings: Settings, environ: dict[str, str]) -> list[Finding]:
    """Give what was found of each backend, one after the other."""
    return [await _found(patient) for patient in _patients(settings, environ)]


async def _found(patient: _Patient) -> Finding:
    began = time.perf_counter()
    promise = detail = ""
    verdict = Verdict.OK
    try:
        async with asyncio.timeout(_LIMIT_S):
            promise = await patient.trial()
    except TimeoutError:
        verdict, detail = Verdict.FAILED, f"it gave no answer within {_LIMIT_S:g} s"
    except PenstockError as error:
        verdict = Verdict.IN_USE if _is_taken(error) else Verdict.FAILED
        detail = error.detail
    took_ms = round((time.perf_counter() - began) * 1000, 1)
    return Finding(
        part=patient.part, where=patient.where, verdict=verdict, took_ms=took_ms, promise=promise, detail=detail
    )


def _is_taken(error: PenstockError) -> bool:
    """Whether a backend of a single process was refused because that process runs."""
    return isinstance(error, Misconfigured) and isinstance(error.__cause__ or error.__context__, BlockingIOError)


def _patients(settings: Settings, environ: dict[str, str]) -> Iterator[_Patient]:
    from .clock import SystemClock

    clock = SystemClock()
    shown = masked(settings)
    yield _Patient("ledger", shown["ledger"], lambda: _try_ledger(settings.ledger, clock))
    yield _Patient("queue", shown["queue"], lambda: _try_queue(settings.queue, clock, environ))
    yield _Patient("store", shown["store"], lambda: _try_store(settings.store, clock, environ))
    if settings.control_store not in ("", settings.store):
        trial = partial(_try_store, settings.control_store, clock, environ)
        yield _Patient("control store", shown["control_store"], trial)
    yield _Patient("compute", shown["compute"], lambda: _try_compute(settings.compute, clock, environ))


# ------------------------------------------------------------------ the trials


async def _try_ledger(url: str, clock: Clock) -> str:
    """Take a lead that nobody else wants, and see that it is ours: one durable write, one read of it."""
    from penstock.ledger import open_ledger
    from penstock.ledger.commands import TakeLead

    async with open_ledger(url, clock=clock) as ledger:
        await ledger.now()
        await ledger.take_lead(TakeLead(name=_PROBE, holder=str(os.getpid()), ttl_seconds=5.0))
        other = await ledger.take_lead(TakeLead(name=_PROBE, holder="nobody", ttl_seconds=5.0))
        if other.held:
            raise Unavailable("the ledger forgot what was written to it a moment ago")
        return ledger.features.durability


async def _try_queue(url: str, clock: Clock, environ: Mapping[str, str]) -> str:
    from penstock.queue import open_queue

    async with open_queue(url, clock=clock, environ=environ) as queue:
        await queue.probe()
        return queue.features.durability


async def _try_store(url: str, clock: Clock, environ: Mapping[str, str]) -> str:
    from penstock.store import open_store

    async with open_store(url, clock=clock, random=os.urandom, environ=environ) as store:
        await store.probe()
        return store.features.durability


async def _try_compute(url: str, clock: Clock, environ: dict[str, str]) -> str:
    from penstock.compute import open_compute

    async with open_compute(url, clock=clock, randomness=os.urandom, base_env=environ) as compute:
        await _see_a_worker(compute)
        return compute.features.describes


async def _see_a_worker(compute: Compute) -> None:
    """Start a worker and see it come and go. It has no credential, so it says so and ends by itself."""
    from penstock.compute.driver import Order, Phase
    from penstock.model.app import App, Worker
    from penstock.model.ids import short_id

    app = App(name=_PROBE, handler="none:None", worker=Worker(fork_server=False))
    order = Order(uid=f"w-{_PROBE}-{short_id(os.urandom(10))}", app=app, spec_generation=0, env={})
    sightings = compute.changes()
    await compute.create(order)
    async for sighting in sightings:
        if sighting.uid == order.uid and sighting.phase is not Phase.PENDING:
            break
    await compute.remove(order.uid, grace_s=5.0)
    await compute.forget(order.uid)


# ------------------------------------------------------------------ what is told


def _print(finding: Finding, *, colours: bool) -> None:
    mark = click.style(finding.verdict, fg=_MARKS[finding.verdict]) if colours else finding.verdict
    click.echo(f"{finding.part:<14} {mark} {finding.took_ms:>8.1f} ms   {finding.where}")
    for text in (finding.promise, finding.detail):
        if text:
            click.echo(f"{'':<14} {text}")


def _conclude(findings: list[Finding], settings: Settings) -> None:
    verdicts = {finding.verdict for finding in findings}
    if Verdict.FAILED in verdicts:
        say("Not everything works. Mend what failed, then run `penstock doctor` again.")
        raise click.exceptions.Exit(1)
    if Verdict.IN_USE in verdicts:
        say(
            "A running Penstock has what is in use; it tells how those parts are at "
            f"http://{settings.host}:{settings.port}/health/ready/full"
        )
        return
    say("Everything works.")
