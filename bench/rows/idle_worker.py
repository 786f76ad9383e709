"""A warm worker with nothing to do: what the waiting costs on each side."""

from __future__ import annotations

import time

import psutil

from bench.stage import stage
from bench.table import Row

SECONDS = 20.0


def measure() -> list[Row]:
    """Compare processor time before and after a while of silence."""
    with stage() as platform:
        platform.apply("noop", worker={"idleExitSeconds": 600})
        assert platform.submit("noop", {"x": 0})[0] == 200
        worker = psutil.Process(platform.workers("noop")[0]["pid"])
        server = psutil.Process(platform.process.pid)
        time.sleep(3)  # the warm-up's last words
        before = _busy(worker), _busy(server)
        time.sleep(SECONDS)
        spent = [100 * (_busy(each) - was) / SECONDS for each, was in zip((worker, server), before, strict=True)]
    return [
        Row("idle worker, its side", spent[0], "% of a core", 0.5, least=False),
        Row("idle worker, the platform's side", spent[1], "% of a core", 0.5, least=False, note="controller included"),
    ]


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
