"""A backlog worked off by one worker in micro-batches of 64, beside one Dramatiq worker process."""

from __future__ import annotations

import statistics
import time

from bench import dramatiq_peer
from bench.load import Load, offer
from bench.stage import Stage, eventually, stage
from bench.table import Row

BACKLOG = 20_000
RUNS = 3


def measure() -> list[Row]:
    """Queue a backlog while the app is paused, then let one worker at it."""
    with stage() as platform:
        rates = [_drained(platform, f"noop{n}") for n in range(RUNS)]
    peer = dramatiq_peer.drain()
    rate = statistics.median(rates)
    note = f"{BACKLOG:,} runs"
    return [Row("backlog drain, 1 worker, batches of 64", rate, "/s", 2500, note=note, peer=f"Dramatiq {peer:,.0f}/s")]


def _drained(platform: Stage, app: str) -> float:
    sections = {"worker": {"batchSize": 64}, "scaling": {"maxInstances": 1}}
    platform.apply(app, **sections)
    assert platform.submit(app, {"x": 0})[0] == 200  # a worker is warm
    platform.apply(app, desiredState="Paused", **sections)
    headers = {"content-type": "application/json", "prefer": "respond-async"}
    offer(Load(platform.port, f"/v1/{app}/infer", '{"x":"{n}"}', headers, total=BACKLOG))
    began = time.perf_counter()
    platform.apply(app, **sections)
    eventually(lambda: platform.depth(app) == 0, "the backlog is gone", 120, pause_s=0.05)
    return BACKLOG / (time.perf_counter() - began)
