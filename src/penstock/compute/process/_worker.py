"""One worker, as the driver follows it from its order to its end."""

from __future__ import annotations

import asyncio

from penstock.compute.driver import Phase, Sighting

from ._records import Record
from ._templates import Template

__all__ = ["Worker"]


class Worker:
    """What this process knows of a worker; `record` is the part that the disk knows too."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.template: Template | None = None
        self.start: asyncio.Task[None] | None = None  # where this process starts it
        self.unwanted = asyncio.Event()
        self.killed = False  # by us
        self.ended = asyncio.Event()
        if record.ended_at is not None:
            self.ended.set()

    @property
    def uid(self) -> str:
        """Its name everywhere."""
        return self.record.uid

    @property
    def phase(self) -> Phase:
        """How far it is."""
        if self.ended.is_set():
            return Phase.ENDED
        return Phase.PENDING if self.record.kin is None else Phase.RUNNING

    @property
    def sighting(self) -> Sighting:
        """What is to be told of it."""
        return Sighting(
            uid=self.record.uid,
            app=self.record.app,
            phase=self.phase,
            pid=None if self.record.kin is None else self.record.kin.pid,
            exit_code=self.record.exit_code,
            reason=self.record.reason,
            message=self.record.message,
            started_at=self.record.started_at,
        )
