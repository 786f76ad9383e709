"""The published results met lately: a repeat is answered from memory and never reaches the ledger."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from penstock.model.ids import Clock
from penstock.model.run import Run, State

__all__ = ["Published"]

_OVERHEAD: Final = 1024  # what a record costs beside its result, about


class Published:
    """SUCCEEDED runs by (tenant, app, key), the least recently used going first once `max_bytes` are held.

    A terminal state is final and a result is never replaced, so an entry can only grow old: it is given until its
    result's time to live has passed, and dropped with its app.
    """

    def __init__(self, clock: Clock, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._runs: OrderedDict[tuple[str, str, str], Run] = OrderedDict()

    def get(self, tenant: str, app: str, key: str) -> Run | None:
        """Give the run whose result answers this key, if it is remembered and still kept."""
        run = self._runs.get((tenant, app, key))
        if run is None:
            return None
        if self._clock.now() >= (run.finished_at or 0.0) + run.terms.result_ttl_seconds:
            self._drop((tenant, app, key))
            return None
        self._runs.move_to_end((tenant, app, key))
        return run

    def add(self, run: Run) -> None:
        """Remember a run if it SUCCEEDED and is not purged."""
        if run.state is not State.SUCCEEDED or run.purged_at is not None:
            return
        at = (run.tenant, run.app, run.key)
        if at in self._runs:
            self._drop(at)
        self._runs[at] = run
        self._bytes += _weight(run)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._runs)))

    def forget_app(self, app: str) -> None:
        """Drop what is remembered of an app."""
        for at in [at for at in self._runs if at[1] == app]:
            self._drop(at)

    def _drop(self, at: tuple[str, str, str]) -> None:
        self._bytes -= _weight(self._runs.pop(at))


def _weight(run: Run) -> int:
    inline = sum(len(payload.inline or b"") for payload in (run.body, run.result) if payload)
    return inline + _OVERHEAD
