"""A worker's log: one JSON object a line, so that a collector needs no pattern and no line holds half an event."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO

import msgspec

__all__ = ["LOG", "event", "start"]

LOG: Final = logging.getLogger("penstock.worker")


def event(name: str, level: int = logging.INFO, /, *, cause: BaseException | None = None, **fields: Any) -> None:
    """Write one event with its fields. Neither name nor fields may hold anything of a body or a result."""
    if LOG.isEnabledFor(level):
        LOG.log(level, name, extra={"fields": fields}, exc_info=cause)


def start(worker: str, app: str, replica: int | None = None, stream: TextIO | None = None) -> None:
    """Send this process's log, the handler's own lines too, to `stream` (stderr by default) as JSON lines."""
    lines = logging.StreamHandler(stream or sys.stderr)
    named: dict[str, Any] = {"worker": worker, "app": app}
    lines.setFormatter(_Lines(named if replica is None else {**named, "replica": replica}))
    logging.basicConfig(level=logging.INFO, handlers=[lines], force=True)


class _Lines(logging.Formatter):
    """Gives a record as one line of JSON."""

    def __init__(self, named: dict[str, Any]) -> None:
        super().__init__()
        self._named = named
        self._encode = msgspec.json.Encoder(enc_hook=repr).encode

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **self._named,
            **getattr(record, "fields", {}),
        }
        if record.name != LOG.name:
            line["logger"] = record.name
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return self._encode(line).decode()
