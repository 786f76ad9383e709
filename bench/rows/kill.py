"""A worker is killed with -9 while it works: how long until its run is running again."""

from __future__ import annotations

import os
import signal
import statistics
import time

from bench.stage import Stage, eventually, stage
from bench.table import Row

RUNS = 3
LEASE_S = 10.0


def measure() -> list[Row]:
    """Kill, then wait for the next attempt; the bar is the lease + 5 s, and an observed death needs no lease at all."""
    with stage() as platform:
        platform.apply("slow", "Slow", deadlines={"leaseSeconds": LEASE_S}, retry={"maxAttempts": 9})
        again = [_again(platform, number) for number in range(RUNS)]
    note = f"lease {LEASE_S:g} s"
    return [Row("kill -9 mid-run: running again", statistics.median(again), "s", LEASE_S + 5, least=False, note=note)]


def _again(platform: Stage, number: int) -> float:
    _, ticket = platform.submit("slow", {"n": number, "s": 1.5}, wait=0)
    run = f"/v1/runs/{ticket['run_id']}"
    first = eventually(lambda: _attempt(platform, run, 1), "the first attempt")
    worker = next(w for w in platform.workers("slow") if w["worker_uid"] == first)
    os.kill(worker["pid"], signal.SIGKILL)
    killed = time.perf_counter()
    eventually(lambda: _attempt(platform, run, 2), "the second attempt")
    took = time.perf_counter() - killed
    eventually(lambda: platform.read(run)["state"] == "SUCCEEDED", "success")
    return took


def _attempt(platform: Stage, run: str, epoch: int) -> str | None:
    attempts = platform.read(run)["attempts"]
    return attempts[epoch - 1]["worker_uid"] if len(attempts) >= epoch else None
