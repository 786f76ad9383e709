"""Passing from one generation of an app's spec to the next without losing a run or a worker that serves.

One worker of the new generation is started beside the old ones. Only as it comes up are old ones retired, as many as
new ones are ready, idle ones first; each retired one is then replaced as demand calls for it. So a rollout doubles its
pace as it goes, and a spec whose workers can't start takes nothing down.
"""

from __future__ import annotations

from penstock.model.app import App

from .crew import Crew

__all__ = ["retired", "scout_needed"]


def scout_needed(crew: Crew, aim: int) -> bool:
    """Tell whether a first worker of the new generation is wanted beside the old ones."""
    present = crew.standing - crew.old
    return crew.old > 0 and present == 0 and aim > 0


def retired(crew: Crew, app: App, aim: int) -> tuple[str, ...]:
    """Give the old workers that get no new lease from now on, `aim` being how many workers are wanted in all."""
    if not crew.old:
        return ()
    surplus = max(0, crew.standing - aim)
    replaced = max(0, crew.ready - crew.draining)
    count = surplus + replaced
    if scout_needed(crew, aim) and _full(crew, app) and not crew.draining:
        count = max(count, 1)  # nothing new can start before something old has gone
        replaced = max(replaced, 1)
    idle = crew.old_idle[:count]
    return idle + crew.old_busy[: max(0, min(replaced, count - len(idle)))]


def _full(crew: Crew, app: App) -> bool:
    most = app.scaling.max_instances
    return bool(most) and crew.live >= most
