"""A worker's post: which worker it is, what it runs and whom it serves."""

from __future__ import annotations

import msgspec

from penstock.model.app import App

__all__ = ["Post"]


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """All that one worker process is told when it starts; `replica` tells the processes of one worker apart."""

    uid: str
    app: App
    api: str  # the broker's address, without /internal/v1
    token: str  # the worker's JWT
    replica: int = 0
    inline_max_bytes: int = 32 * 1024
    grace_s: float = 8.0  # from SIGTERM to the release of what is unfinished

    @property
    def packed(self) -> bool:
        """Whether the worker is a launcher with several replicas."""
        return self.app.worker.instances > 1
