"""What the controller remembers of each app between ticks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from penstock.model.fleet import Worker

from .history import History, recalled, started, with_end, with_refusal

__all__ = ["Recall"]

_BLANK = History()


class Recall:
    """A history per app; an app that nothing is known of has a blank one."""

    def __init__(self) -> None:
        self._histories: dict[str, History] = {}

    def of(self, app: str) -> History:
        """Give an app's history; the same object as long as nothing happened."""
        return self._histories.get(app, _BLANK)

    def planned(self, app: str, seen: History, history: History) -> None:
        """Keep what a plan made of the history that it had `seen`; what happened meanwhile stays."""
        if history is not seen and self.of(app) is seen:
            self._histories[app] = history

    def started(self, app: str, count: int, now: float) -> None:
        """Note that workers were started."""
        self._histories[app] = started(self.of(app), count, now)

    def ended(self, worker: Worker, now: float) -> bool:
        """Note a worker's end; tells whether that opened the app's circuit."""
        return self._change(worker.app, with_end(self.of(worker.app), worker, now))

    def refused(self, worker: Worker, now: float) -> bool:
        """Note that a worker can't start as ordered; tells whether that opened the app's circuit."""
        return self._change(worker.app, with_refusal(self.of(worker.app), worker, now))

    def refresh(self, workers: Iterable[Worker]) -> None:
        """Forget everything but what these records tell: another process led until now."""
        by_app: defaultdict[str, list[Worker]] = defaultdict(list)
        for worker in workers:
            by_app[worker.app].append(worker)
        self._histories = {app: recalled(rows) for app, rows in by_app.items()}

    def forget(self, app: str) -> None:
        """Forget an app that is no more."""
        self._histories.pop(app, None)

    def _change(self, app: str, after: History) -> bool:
        before, self._histories[app] = self.of(app), after
        return after.circuit.tripped and not before.circuit.tripped
