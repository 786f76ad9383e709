"""Durable accepts: unique bodies of 200 bytes, 64 clients, nobody waits for the answer."""

from __future__ import annotations

import statistics

from bench.load import Load, offer
from bench.stage import stage
from bench.table import Row

RUNS = 3


def measure() -> list[Row]:
    """Measure an app that is paused, so that only accepting costs."""
    with stage() as platform:
        platform.apply("noop", desiredState="Paused")
        body = '{"x":"{n}","pad":"' + "p" * 165 + '"}'
        load = Load(
            platform.port,
            "/v1/noop/infer",
            body,
            {"content-type": "application/json", "prefer": "respond-async"},
            seconds=4,
        )
        seen = [offer(load) for _ in range(RUNS)]
    assert all(set(each.statuses) == {"202"} for each in seen), seen
    rate = statistics.median(each.rate for each in seen)
    p99 = statistics.median(each.p99 for each in seen)
    return [
        Row("durable accept", rate, "/s", 4000, note=f"p50 {statistics.median(e.p50 for e in seen):.1f} ms"),
        Row("durable accept, p99", p99, "ms", 50, least=False),
    ]
