"""What an app is doing, in one record: what the console, the CLI and the API show."""

from __future__ import annotations

from typing import Final

import msgspec

from penstock.model.app import App, DesiredState
from penstock.model.placement import Phase
from penstock.model.run import Reason

__all__ = ["AppStatus", "at_rest"]


class AppStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An app's phase with the reason for it, and its workers in numbers."""

    phase: Phase = Phase.READY
    reason: Reason | None = None  # why its runs wait, where they do
    message: str = ""
    desired: int = 0  # workers that its work calls for
    live: int = 0
    starting: int = 0
    idle: int = 0
    busy: int = 0
    draining: int = 0
    last_error: str = ""


_AT_REST: Final = {
    DesiredState.READY: AppStatus(message="nothing to do"),
    DesiredState.PAUSED: AppStatus(
        phase=Phase.PAUSED, reason=Reason.PAUSED, message="paused: runs are taken in, none starts"
    ),
    DesiredState.DRAINING: AppStatus(phase=Phase.DRAINING, message="drained: nothing is left"),
}


def at_rest(app: App) -> AppStatus:
    """Give the status of an app without work and without workers."""
    return _AT_REST[app.desired_state]
