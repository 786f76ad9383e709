"""A warm worker with nothing to do: what the waiting costs on each side."""

from __future__ import annotations

import time

import psutil

from bench.stage import stage
from bench.table import Row

SECONDS = 20.0


def measure() -> list[Row]:
    """Compare processor time over a while of silence, without and with a worker that waits."""
    with stage() as platform:
        server = psutil.Process(platform.process.pid)
        platform.apply("noop", worker={"idleExitSeconds": 600})
        (alone,) = _spent(server)
        assert platform.submit("noop", {"x": 0})[0] == 200
        worker = psutil.Process(platform.workers("noop")[0]["pid"])
        its, whole = _spent(worker, server)
    note = f"the whole platform: {alone:.2f} % without, {whole:.2f} % with it"
    return [
        Row("idle worker, its side", its, "% of a core", 0.5, least=False),
        Row("idle worker, the platform's side", whole - alone, "% of a core", 0.5, least=False, note=note),
    ]


def _spent(*processes: psutil.Process) -> list[float]:
    time.sleep(3)  # the last words of what came before
    before = [_busy(each) for each in processes]
    time.sleep(SECONDS)
    return [100 * (_busy(each) - was) / SECONDS for each, was in zip(processes, before, strict=True)]


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
