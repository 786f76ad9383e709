"""Completions end to end: 64 clients, two workers; beside Dramatiq over Redis with two worker processes."""

from __future__ import annotations

import statistics

from bench import dramatiq_peer
from bench.load import Load, offer
from bench.stage import Stage, eventually, stage
from bench.table import Row

RUNS = 3


def measure() -> list[Row]:
    """Alternate with the peer, which has no HTTP in front of it and no ledger behind."""
    scaling = {"minInstances": 2, "maxInstances": 2, "scaleUpCooldownSeconds": 0}
    with stage() as platform:
        platform.apply("noop", worker={"batchSize": 32}, scaling=scaling)
        eventually(lambda: len(_ready(platform)) == 2, "two workers are ready")
        headers = {"content-type": "application/json", "prefer": "wait=30"}
        load = Load(platform.port, "/v1/noop/infer", '{"x":"{n}"}', headers, seconds=4)
        offer(load)
        pairs = [(offer(load), dramatiq_peer.completions()) for _ in range(RUNS)]
    assert all(set(each.statuses) == {"200"} for each, _ in pairs), pairs
    rate = statistics.median(each.rate for each, _ in pairs)
    peer = statistics.median(other for _, other in pairs)
    note = f"p50 {pairs[-1][0].p50:.1f} ms"
    return [Row("completions, 2 workers, 64 clients", rate, "/s", 1500, note=note, peer=f"Dramatiq {peer:,.0f}/s")]


def _ready(platform: Stage) -> list[object]:
    return [worker for worker in platform.workers("noop") if worker["state"] in ("IDLE", "BUSY")]
