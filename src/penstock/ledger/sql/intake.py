"""What a request for a run comes to, given the latest generation of its key. Decides; asks and writes nothing."""

from __future__ import annotations

from enum import Enum, auto

from msgspec.structs import replace

from penstock.errors import Conflict, Gone, NotFound, PenstockError
from penstock.ledger.commands import Acceptance, Again, NewRun, Pin
from penstock.model.run import Run, State

from .rows import Row
from .terms import encode_terms

__all__ = ["Key", "Start", "by_key", "by_pin", "joined", "key_of", "new_run", "refusal", "run_row", "same"]

Key = tuple[str, str, str]  # key, tenant, app: as the index has them


class Start(Enum):
    """The next generation is to be started."""

    NEXT = auto()


def key_of(run: NewRun | Run) -> Key:
    """Give what at most one live run may have."""
    return run.key, run.tenant, run.app


def by_key(latest: Run | None, run_id: str, *, reuse: bool) -> Acceptance | Start:
    """Tell what a request is, or that the next generation is to be started."""
    if latest is None:
        return Start.NEXT
    if latest.id == run_id:
        return Acceptance.CREATED
    if not latest.terminal:
        return Acceptance.JOINED
    if latest.state is State.SUCCEEDED and latest.purged_at is None and reuse:
        return Acceptance.HIT
    return Start.NEXT


def by_pin(pin: Pin, fingerprint: str, run: Run) -> Acceptance:
    """Tell what a request is whose pin stands for a run already."""
    if fingerprint != pin.fingerprint:
        return Acceptance.MISMATCH
    return Acceptance.HIT if run.terminal else Acceptance.JOINED


def joined(run: Run, asked: NewRun) -> Run:
    """Give a live run with what a joiner brings: a higher priority, a webhook of its own."""
    return replace(run, priority=max(run.priority, asked.priority), webhook=_both(run.webhook, asked.webhook))


def _both(first: str | None, second: str | None) -> str | None:
    """Give the URLs of two joiners, separated by a space, which no URL holds."""
    urls = dict.fromkeys(f"{first or ''} {second or ''}".split())
    return " ".join(urls) or None


def new_run(asked: NewRun, generation: int, seq: int, mark: int, now: float) -> Run:
    """Give the run that starts a generation."""
    return Run(
        id=asked.id,
        seq=seq,
        tenant=asked.tenant,
        app=asked.app,
        lane=asked.lane,
        key=asked.key,
        generation=generation,
        spec_generation=asked.spec_generation,
        state=State.QUEUED,
        priority=asked.priority,
        sha256=asked.sha256,
        body=asked.body,
        tag=asked.tag,
        parent=asked.parent,
        webhook=asked.webhook,
        traceparent=asked.traceparent,
        terms=asked.terms,
        mark=mark,
        created_at=now,
        queued_at=now,
        expires_at=now + asked.terms.queue_ttl_seconds,
    )


def run_row(run: Run, share: int) -> Row:
    """Give the row of a new run: seq, run_id, share, priority, queued_at, expires_at, tenant ... created_at."""
    return (
        run.seq,
        run.id,
        share,
        run.priority,
        run.queued_at,
        run.expires_at,
        run.tenant,
        run.app,
        run.lane.value,
        run.key,
        run.generation,
        run.spec_generation,
        encode_terms(run.terms),
        run.mark,
        run.sha256,
        run.tag,
        run.parent,
        run.webhook,
        run.traceparent,
        run.created_at,
    )


# ------------------------------------------------------------------ once more


def refusal(failed: Run | None, command: Again) -> PenstockError | None:
    """Tell why a run can't be started again."""
    if failed is None:
        return NotFound(f"there is no run {command.run_id}")
    if failed.purged_at is not None:
        return Gone("the run was purged, and its body with it; submit the input again")
    if failed.state is not State.FAILED:
        return Conflict(f"run {failed.id} is {failed.state}: only a FAILED one can be started again")
    return None


def same(failed: Run, command: Again, weight: float) -> NewRun:
    """Give what was asked for then, to be asked for again."""
    return NewRun(
        id=command.new_id,
        tenant=failed.tenant,
        app=failed.app,
        lane=failed.lane,
        key=failed.key,
        spec_generation=failed.spec_generation,
        body=failed.body,
        sha256=failed.sha256,
        priority=failed.priority,
        tag=failed.tag,
        parent=failed.parent,
        webhook=failed.webhook,
        traceparent=failed.traceparent,
        terms=command.terms or failed.terms,
        weight=weight,
    )
