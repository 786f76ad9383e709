"""From nothing to a first result: the platform's start, the first worker of an app, and a later one from zero."""

from __future__ import annotations

import statistics
import time

from bench.stage import eventually, stage
from bench.table import Row

RUNS = 5


def measure() -> list[Row]:
    """Time a newcomer's first minute, then workers forked from a warm template."""
    began = time.perf_counter()
    with stage() as platform:
        platform.apply("noop", worker={"idleExitSeconds": 0.3}, scaling={"scaleDownStabilizationSeconds": 0})
        assert platform.submit("noop", {"x": 0}, wait=30)[0] == 200
        first = time.perf_counter() - began
        warm = []
        for number in range(RUNS):
            eventually(lambda: not platform.workers("noop"), "zero workers")
            began = time.perf_counter()
            assert platform.submit("noop", {"x": number + 1}, wait=30)[0] == 200
            warm.append((time.perf_counter() - began) * 1000)
    return [
        Row("start of the platform to first result", first, "s", 10, least=False),
        Row("zero workers to first result, template warm", statistics.median(warm), "ms", 150, least=False),
    ]
