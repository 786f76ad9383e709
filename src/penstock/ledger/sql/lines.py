"""The counters of lines and shares, in memory: whose turn it is, and what each step of a run changes.

Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996) over tenants: each lease charges its tenant's virtual time
in advance by what an attempt is expected to take, over the tenant's weight; its end corrects that by what it took. The
tenant with the least virtual time is served next. One that was away starts again no earlier than the line has come to,
so nobody saves up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from types import MappingProxyType
from typing import Final

from penstock.model.run import Lane

__all__ = ["Line", "Lines", "Share"]

_LEAST_CHARGE_S: Final = 0.001
_FORGETTING: Final = 0.05  # the weight of the newest attempt in the moving average of what attempts take


class Line:
    """One lane of one app."""

    __slots__ = (
        "active",
        "app",
        "book",
        "expected_seconds",
        "floor",
        "id",
        "lane",
        "leased_total",
        "queued",
        "service_seconds",
        "settled_total",
        "shares",
    )

    def __init__(self, book: Lines, line_id: int, app: str, lane: Lane) -> None:
        self.book = book
        self.id = line_id
        self.app = app
        self.lane = lane
        self.leased_total = 0
        self.settled_total = 0
        self.service_seconds = 0.0
        self.expected_seconds = 0.0
        self.queued = 0  # the sum over its shares
        self.floor = 0.0  # the virtual time that its service has come to
        self.shares: dict[str, Share] = {}
        self.active: set[Share] = set()  # those with runs in line

    @property
    def in_line(self) -> int:
        """How many runs could be leased now."""
        return sum(share.in_line for share in self.active)

    @property
    def running(self) -> int:
        """How many runs are held by workers."""
        return sum(share.running for share in self.shares.values())

    def ahead(self, mark: int) -> int:
        """Give about how many runs are served before the one with this mark: never more than there are."""
        return max(0, min(mark - self.leased_total, self.queued))

    def charge_for(self, weight: float) -> float:
        """Give what a lease costs in advance, in seconds of virtual time."""
        return max(self.expected_seconds, _LEAST_CHARGE_S) / weight

    def turns(self, count: int, most: Mapping[Share, int] = MappingProxyType({})) -> list[Share]:
        """Give whose turn it is, for the next `count` runs, where some shares can give no more than `most`."""
        if len(self.active) == 1:
            (share,) = self.active
            return [share] * min(count, most.get(share, share.in_line))
        return list(self._turns(count, most))

    def _turns(self, count: int, most: Mapping[Share, int]) -> Iterator[Share]:
        heap = [
            (share.vtime, share.id, left, share)
            for share in self.active
            if (left := most.get(share, share.in_line)) > 0
        ]
        heapify(heap)
        for _ in range(count):
            if not heap:
                return
            vtime, share_id, left, share = heap[0]
            yield share
            if left > 1:
                heapreplace(heap, (vtime + self.charge_for(share.weight), share_id, left - 1, share))
            else:
                heappop(heap)

    def served(self, seconds: float) -> None:
        """Note that an attempt was worked to its end."""
        self.settled_total += 1
        self.service_seconds += seconds
        if self.settled_total == 1:
            self.expected_seconds = seconds
        else:
            self.expected_seconds += _FORGETTING * (seconds - self.expected_seconds)
        self.book.changed_lines.add(self)


class Share:
    """One tenant's part of a line."""

    __slots__ = ("id", "in_line", "lifted_to", "line", "queued", "running", "tenant", "vtime", "weight")

    def __init__(self, share_id: int, line: Line, tenant: str) -> None:
        self.id = share_id
        self.line = line
        self.tenant = tenant
        self.weight = 1.0
        self.queued = 0
        self.in_line = 0
        self.running = 0
        self.vtime = 0.0
        self.lifted_to = 0.0  # the floor that it started again from, as far as this process did it

    def join(self, *, in_line: bool) -> None:
        """A run became QUEUED."""
        self.queued += 1
        self.line.queued += 1
        self.line.book.changed_shares.add(self)
        if in_line:
            self.step_in()

    def leave(self, *, in_line: bool) -> None:
        """A run is no longer QUEUED."""
        self.queued -= 1
        self.line.queued -= 1
        self.line.book.changed_shares.add(self)
        if in_line:
            self.in_line -= 1
            if self.in_line == 0:
                self.line.active.discard(self)

    def step_in(self) -> None:
        """A QUEUED run came into line."""
        if self.in_line == 0:
            self.lifted_to = max(self.lifted_to, self.line.floor)
            self.vtime = max(self.vtime, self.line.floor)
            self.line.active.add(self)
        self.in_line += 1
        self.line.book.changed_shares.add(self)

    def lease(self) -> float:
        """A run became RUNNING; gives what its tenant was charged."""
        line = self.line
        line.floor = max(line.floor, self.vtime)
        self.leave(in_line=True)
        charge = line.charge_for(self.weight)
        self.vtime += charge
        self.running += 1
        line.leased_total += 1
        self.line.book.changed_lines.add(line)
        return charge

    def end(self, charged: float, seconds: float) -> None:
        """A run is no longer RUNNING: its attempt took so many seconds."""
        self.running -= 1
        self.vtime += max(seconds, _LEAST_CHARGE_S) / self.weight - charged
        self.line.book.changed_shares.add(self)


class Lines:
    """The lines that are known, by app and lane, and which of them and of their shares have changed."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], Line] = {}
        self._shares: dict[int, Share] = {}
        self.changed_lines: set[Line] = set()
        self.changed_shares: set[Share] = set()

    def clear(self) -> None:
        """Forget everything."""
        for held in (self._lines, self._shares, self.changed_lines, self.changed_shares):
            held.clear()

    def add_line(self, line_id: int, app: str, lane: Lane) -> Line:
        """Make a line known; its counters are set by the caller."""
        line = self._lines[app, lane.value] = Line(self, line_id, app, lane)
        return line

    def add_share(self, share_id: int, line: Line, tenant: str) -> Share:
        """Make a tenant's share of a line known; its counters are set by the caller."""
        share = self._shares[share_id] = line.shares[tenant] = Share(share_id, line, tenant)
        return share

    def find(self, app: str, lane: str) -> Line | None:
        """Give a line, if a run was ever in it."""
        return self._lines.get((app, lane))

    def of(self, app: str) -> list[Line]:
        """Give an app's lines."""
        return [line for lane in Lane if (line := self._lines.get((app, lane))) is not None]

    def all(self) -> list[Line]:
        """Give every line that is known."""
        return list(self._lines.values())

    def share(self, share_id: int) -> Share:
        """Give a share by its number."""
        return self._shares[share_id]
