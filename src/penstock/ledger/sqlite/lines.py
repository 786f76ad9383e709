"""The counters of lines and shares, held in memory while the one writer lives, and saved with what moved them."""

from __future__ import annotations

import sqlite3

from penstock.ledger.sql.lines import Line, Lines, Share
from penstock.model.run import Lane

__all__ = ["SavedLines"]


class SavedLines(Lines):
    """All lines of the file, by app and lane."""

    def load(self, db: sqlite3.Connection) -> None:
        """Forget what is here and read what is committed."""
        self.clear()
        by_id: dict[int, Line] = {}
        for row in db.execute(
            "SELECT id, app, lane, leased_total, settled_total, service_seconds, expected_seconds FROM lines"
        ):
            line = by_id[row[0]] = self.add_line(row[0], row[1], Lane(row[2]))
            _, _, _, line.leased_total, line.settled_total, line.service_seconds, line.expected_seconds = row
        for row in db.execute("SELECT id, line, tenant, weight, queued, in_line, running, vtime FROM shares"):
            line = by_id[row[1]]
            share = self.add_share(row[0], line, row[2])
            _, _, _, share.weight, share.queued, share.in_line, share.running, share.vtime = row
            line.queued += share.queued
            if share.in_line:
                line.active.add(share)
        for line in by_id.values():
            # The floor is not stored: the least that is served is where the line has come to.
            busy = [share.vtime for share in line.active]
            line.floor = min(busy) if busy else max((share.vtime for share in line.shares.values()), default=0.0)

    def save(self, db: sqlite3.Connection) -> None:
        """Write what changed since the last save, into the transaction that changed it."""
        if self.changed_lines:
            db.executemany(
                "UPDATE lines SET leased_total = ?, settled_total = ?, service_seconds = ?, expected_seconds = ? "
                "WHERE id = ?",
                [
                    (line.leased_total, line.settled_total, line.service_seconds, line.expected_seconds, line.id)
                    for line in self.changed_lines
                ],
            )
            self.changed_lines.clear()
        if self.changed_shares:
            db.executemany(
                "UPDATE shares SET weight = ?, queued = ?, in_line = ?, running = ?, vtime = ? WHERE id = ?",
                [
                    (share.weight, share.queued, share.in_line, share.running, share.vtime, share.id)
                    for share in self.changed_shares
                ],
            )
            self.changed_shares.clear()

    def share_of(self, db: sqlite3.Connection, app: str, lane: Lane, tenant: str) -> Share:
        """Give a tenant's share of a line; both are made at their first use."""
        line = self.find(app, lane.value)
        if line is None:
            made = db.execute("INSERT INTO lines (app, lane) VALUES (?, ?)", (app, lane.value))
            line = self.add_line(made.lastrowid or 0, app, lane)
        share = line.shares.get(tenant)
        if share is None:
            made = db.execute("INSERT INTO shares (line, tenant) VALUES (?, ?)", (line.id, tenant))
            share = self.add_share(made.lastrowid or 0, line, tenant)
        return share
