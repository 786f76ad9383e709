"""What is kept of each worker on disk, so that the next process of the platform finds it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ._kin import Kin

__all__ = ["Record", "Records"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One worker. Without `kin` it was about to start: its process, if there is one, bears the uid in its title."""

    uid: str
    app: str
    generation: int
    log: str
    kin: Kin | None = None
    started_at: float = 0.0
    ended_at: float | None = None
    exit_code: int | None = None
    reason: str = ""
    message: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class Records:
    """A folder with a file a worker. It holds no credential.

    Nothing is synced to the disk: a record outlives this process, and after the machine's end its worker is gone too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, record: Record) -> None:
        """Put a record in place of the last one; a reader sees the one or the other, whole."""
        path = self._path(record.uid)
        draft = path.with_suffix(".new")
        draft.write_bytes(_encode(record))
        draft.replace(path)

    def drop(self, uid: str) -> None:
        """Remove a record; an absent one is fine."""
        self._path(uid).unlink(missing_ok=True)

    def read(self) -> Iterator[Record]:
        """Give every record; one that was torn when the machine died is removed, as is a draft."""
        for path in sorted(self._folder.iterdir()):
            record = _read(path) if path.suffix == ".json" else None
            if record is None:
                path.unlink(missing_ok=True)
            else:
                yield record

    def _path(self, uid: str) -> Path:
        return self._folder / f"{uid}.json"


def _read(path: Path) -> Record | None:
    try:
        return _decode(path.read_bytes())
    except msgspec.DecodeError:
        return None
