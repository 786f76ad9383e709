"""Cached hits: the same request again and again, beside a hello-world of the same server in the same minute."""

from __future__ import annotations

import socket
import statistics

from bench.hello import serving
from bench.load import Load, offer
from bench.stage import stage
from bench.table import Row

RUNS = 3


def measure() -> list[Row]:
    """Alternate the two, so that both meet the same noise."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    headers = {"content-type": "application/json"}
    with stage() as platform, serving(port):
        platform.apply("noop", worker={"idleExitSeconds": 1})
        assert platform.submit("noop", {"x": 1})[0] == 200
        hit = Load(platform.port, "/v1/noop/infer", '{"x": 1}', headers, seconds=3)
        hello = Load(port, "/hello", '{"x": 1}', headers, seconds=3)
        pairs = [(offer(hit), offer(hello)) for _ in range(RUNS)]
    assert all(set(each.statuses) == {"200"} for each, _ in pairs), pairs
    rate = statistics.median(each.rate for each, _ in pairs)
    ratio = statistics.median(each.rate / other.rate for each, other in pairs)
    ceiling = statistics.median(other.rate for _, other in pairs)
    return [Row("cached hit", rate, "/s", 9000, peer=f"hello-world {ceiling:,.0f}/s", note=f"{ratio:.2f} x hello")]
