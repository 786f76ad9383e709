"""`describe`: all that is known of an app or a run, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from penstock.cli import kinds
from penstock.cli.command import verb
from penstock.cli.names import kind_and_name
from penstock.cli.output import Format, Layout, flat
from penstock.cli.session import Session

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.model.documents import AppDocument, ResultNote, RunDocument

__all__ = ["describe"]

_EVENTS: Final = 10
_PLACEMENTS: Final = 5


@verb()
@click.argument("what", metavar="app|run|KIND/NAME")
@click.argument("name", required=False)
async def describe(session: Session, /, what: str, name: str | None) -> None:
    """Tell all about an app or a run: what it is, what it does, what happened to it, and why."""
    kind, bare = kind_and_name(what if name is None else f"{what}/{name}")
    async with session.client() as client:
        match kind:
            case "app" | "apps":
                lines = await _app(session, client, bare)
            case "run" | "runs":
                lines = await _run(session, client, bare)
            case _:
                raise click.UsageError("Describe an app or a run: penstock describe app NAME, or run/ID.")
    for line in lines:
        click.echo(line)


async def _app(session: Session, client: AsyncClient, name: str) -> list[str]:
    app = await client.apps.get(name)
    workers = await client.workers(app=name)
    events = await client.apps.events(name, limit=_EVENTS)
    decisions = await client.apps.decisions(name, limit=_PLACEMENTS)
    spec = await client.apps.spec(name)
    now = session.now()
    return [
        f"app/{app.name}",
        *_facts(_app_facts(app, now)),
        *_section("Workers", Layout(kinds.WORKERS, Format.WIDE).lines(workers, now=now)),
        *_section("Events", Layout(kinds.EVENTS, Format.TABLE).lines(events, now=now)),
        *_section("Placements", kinds.placements(decisions, now) if decisions else []),
        *_section("Spec", spec.rstrip().splitlines()),
    ]


def _app_facts(app: AppDocument, now: float) -> list[tuple[str, str]]:
    why = ": ".join(part for part in (app.reason, app.message) if part)
    return [
        ("phase", f"{app.phase or 'unknown'}" + (f" ({why})" if why else "")),
        ("wanted", app.desired_state),
        ("runs", f"{app.queued} queued, {app.running} running"),
        ("workers", f"{app.workers} live, {app.workers_desired} wanted"),
        ("generation", f"{app.generation}, since {kinds.age(app.updated_at, now)}"),
        ("labels", ", ".join(f"{key}={value}" for key, value in app.labels.items())),
    ]


async def _run(session: Session, client: AsyncClient, run_id: str) -> list[str]:
    run = await client.get(run_id)
    story = await client.explain(run_id)
    now = session.now()
    return [
        f"run/{run.id}",
        *_facts(_run_facts(run, now)),
        *_section("Attempts", kinds.attempts(run.attempts, now) if run.attempts else []),
        *_section("Placement", kinds.placements([run.placement], now) if run.placement else []),
        *_section("Story", [f"{story.summary}.", *kinds.steps(story.steps, now)]),
    ]


def _run_facts(run: RunDocument, now: float) -> list[tuple[str, str]]:
    why = ": ".join(part for part in (run.reason, run.message) if part)
    took = run.timings
    return [
        ("app", f"{run.app} (generation {run.spec_generation})"),
        ("ticket", run.ticket),
        ("state", run.state + (f" ({why})" if why else "")),
        ("progress", "" if run.progress is None else f"{run.progress:.0%} {run.progress_note}".rstrip()),
        ("accepted", f"{kinds.age(run.created_at, now)} ago, lane {run.lane}, priority {run.priority}"),
        ("waited", "" if took is None else kinds.span(took.waited)),
        ("ran", "" if took is None or took.ran is None else kinds.span(took.ran)),
        ("body", f"{run.size} bytes of {run.content_type}"),
        ("result", _result(run.result)),
        ("tag", run.tag or ""),
        ("parent", run.parent or ""),
    ]


def _result(note: ResultNote | None) -> str:
    if note is None:
        return ""
    return f"{note.size} bytes of {note.content_type}" + (f", kept as {note.encoding}" if note.encoding else "")


def _facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    return [f"  {name:<12} {flat(text)}" for name, text in facts if text]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []
