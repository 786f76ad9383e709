"""The chain through the audit: each row's hash covers the row and the hash before it, so no row can be changed unseen.

Every driver computes it here, so a chain written by one can be checked by all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from .commands import AuditRow

__all__ = ["FIRST", "broken_at", "link"]

FIRST: Final = "0" * 64  # what stands before the first row


def link(row: AuditRow) -> str:
    """Give a row's hash: SHA-256 (hex) of the JSON array of all its fields but `hash`, in their order."""
    fields = [getattr(row, name) for name in row.__struct_fields__ if name != "hash"]
    return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()


def broken_at(rows: Iterable[AuditRow], before: str = FIRST) -> int | None:
    """Give the id of the first row that was changed, or that misses the one before it; None if all holds.

    Rows come oldest first; `before` is the hash of the row ahead of the first.
    """
    for row in rows:
        if row.previous != before or link(row) != row.hash:
            return row.id
        before = row.hash
    return None
