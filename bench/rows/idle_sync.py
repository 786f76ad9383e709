"""One client, one warm worker, a handler that does nothing: the whole walk, one request at a time."""

from __future__ import annotations

import statistics

from bench.load import Load, offer
from bench.stage import stage
from bench.table import Row

RUNS = 3


def measure() -> list[Row]:
    """Measure the median of sequential requests."""
    with stage() as platform:
        platform.apply("noop")
        assert platform.submit("noop", {"x": 0})[0] == 200
        load = Load(
            platform.port, "/v1/noop/infer", '{"x":"{n}"}', {"content-type": "application/json"}, clients=1, total=400
        )
        offer(load)
        seen = [offer(load) for _ in range(RUNS)]
    p50 = statistics.median(each.p50 for each in seen)
    return [Row("sync infer, idle, p50", p50, "ms", 5, least=False, note=f"p99 {seen[-1].p99:.1f} ms")]
