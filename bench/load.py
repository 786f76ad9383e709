"""A load generator: closed-loop clients over raw sockets, so that it costs little beside what it measures.

It runs in a process of its own: `offer(...)` starts one and gives back what it saw.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import cast

PATIENCE_S = 120.0  # a request that is never answered must not stop a benchmark for ever


@dataclass(frozen=True)
class Load:
    """What to send. `{n}` in the body becomes a number that never comes twice. `total` 0 = until `seconds` are over."""

    port: int
    path: str
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    clients: int = 64
    seconds: float = 5.0
    total: int = 0
    method: str = "POST"


@dataclass(frozen=True)
class Seen:
    """What came back: requests per second, latencies in milliseconds, and how often each status was seen."""

    rate: float
    p50: float
    p99: float
    most: float
    statuses: dict[str, int]
    count: int


def offer(load: Load) -> Seen:
    """Run a load in a process of its own."""
    command = [sys.executable, "-m", "bench.load"]
    ran = subprocess.run(command, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    return Seen(**json.loads(ran.stdout))


class Client(asyncio.Protocol):
    """One keep-alive connection that sends its next request once the last is answered."""

    def __init__(self, head: bytes, more: Callable[[], bytes | None], note: Callable[[bytes, float], None]) -> None:
        self.head = head
        self.more = more
        self.note = note
        self.finished = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.send()

    def send(self) -> None:
        body = self.more()
        if body is None:
            self.transport.close()
            return
        self.sent_at = time.perf_counter()
        self.transport.write(b"%s%d\r\n\r\n%s" % (self.head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 : (head + b"\r\n").find(b"\r\n", at)])
        if len(self.buffer) < end + 4 + length:
            return
        self.note(head[9:12], time.perf_counter() - self.sent_at)
        self.buffer = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_result(error)


async def run(load: Load) -> Seen:
    """Offer the load from this process."""
    loop = asyncio.get_running_loop()
    lines = [f"{load.method} {load.path} HTTP/1.1", "host: 127.0.0.1", *(f"{k}: {v}" for k, v in load.headers.items())]
    head = ("\r\n".join(lines) + "\r\ncontent-length: ").encode()
    before, after = (part.encode() for part in [*load.body.split("{n}"), ""][:2])
    unique = "{n}" in load.body
    base, sent = time.time_ns(), 0
    until = loop.time() + load.seconds
    latencies: list[float] = []
    statuses: Counter[str] = Counter()

    def more() -> bytes | None:
        nonlocal sent
        if (load.total and sent >= load.total) or (not load.total and loop.time() >= until):
            return None
        sent += 1
        return b"%s%d%s" % (before, base + sent, after) if unique else before

    def note(status: bytes, seconds: float) -> None:
        latencies.append(seconds * 1000)
        statuses[status.decode()] += 1

    began = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(head, more, note), "127.0.0.1", load.port))[1]
        for _ in range(load.clients)
    ]
    async with asyncio.timeout(load.seconds + PATIENCE_S):
        await asyncio.gather(*(client.finished for client in clients))
    took = time.perf_counter() - began
    ordered = sorted(latencies)
    return Seen(
        rate=len(ordered) / took,
        p50=statistics.median(ordered),
        p99=ordered[int(len(ordered) * 0.99) - 1] if len(ordered) > 1 else ordered[0],
        most=ordered[-1],
        statuses=dict(statuses),
        count=len(ordered),
    )


def main() -> None:
    """Read a load from standard input, offer it, and print what was seen."""
    import uvloop

    load = Load(**json.load(sys.stdin))
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        print(json.dumps(asdict(runner.run(run(load)))))


if __name__ == "__main__":
    main()
