"""People who wait: with no worker T_sync is held to the millisecond; and many waiters are woken at once."""

from __future__ import annotations

from bench.load import Load, offer
from bench.stage import stage
from bench.table import Row

MANY = 2_000


def measure() -> list[Row]:
    """Let 16 clients, then 2,000, wait the default 3 s for an app that is paused."""
    headers = {"content-type": "application/json"}
    with stage() as platform:
        platform.apply("noop", desiredState="Paused")
        load = Load(platform.port, "/v1/noop/infer", '{"x":"{n}"}', headers, clients=16, total=16)
        few = offer(load)
        many = offer(Load(platform.port, "/v1/noop/infer", '{"x":"{n}"}', headers, clients=MANY, total=MANY))
    assert set(few.statuses) | set(many.statuses) == {"202"}
    return [
        Row(
            "16 waiters, no worker: T_sync", few.most / 1000, "s", 3.1, least=False, note=f"p50 {few.p50 / 1000:.3f} s"
        ),
        Row(f"{MANY:,} waiters, no worker: T_sync, p99", many.p99 / 1000, "s", note="one gateway process"),
    ]
