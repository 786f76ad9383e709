"""What Prometheus may ask: this gateway's own figures, and the ledger's at the moment of the question.

Labels are bounded: routes, apps, lanes and states, never a tenant or a run. Every counter stands at 0 from the start.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock import errors
from penstock._version import __version__
from penstock.ledger.commands import Acceptance, LaneCount
from penstock.model.fleet import LIVE, Worker
from penstock.serving import Broker

__all__ = ["CONTENT_TYPE", "NOWHERE", "Meters", "Snapshot"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()

_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")
NOWHERE: Final = ("*", "(none)")
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LANE: Final = ("app", "lane")


class Meters:
    """The figures of one gateway process, in the registry that the wiring passes to every part."""

    def __init__(self, registry: CollectorRegistry, routes: Iterable[tuple[str, str]]) -> None:
        self._registry = registry
        requests = Counter(
            "penstock_http_requests", "HTTP requests answered.", ["method", "route", "status"], registry=registry
        )
        seconds = Histogram(
            "penstock_http_request_duration_seconds",
            "Seconds from a request's headers to the end of its answer, waits included.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        submissions = Counter(
            "penstock_submissions", "Submissions by what became of them.", ["outcome"], registry=registry
        )
        refusals = Counter("penstock_refusals", "Requests refused, by the problem's code.", ["code"], registry=registry)
        names = [*routes, NOWHERE]
        self._requests = {
            (method, route, kind): requests.labels(method, route, kind) for method, route in names for kind in _CLASSES
        }
        self._seconds = {route: seconds.labels(route) for route in {route for _, route in names}}
        self._submissions = {how: submissions.labels(how.value) for how in Acceptance}
        self._refusals = refusals
        for code in _codes():
            refusals.labels(code)
        self.snapshot = Snapshot()
        registry.register(self.snapshot)

    def served(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `NOWHERE` is the method and route of one that found none."""
        self._requests[method, route, _CLASSES[status // 100 - 2]].inc()
        self._seconds[route].observe(seconds)

    def submitted(self, how: Acceptance) -> None:
        """Count a submission."""
        self._submissions[how].inc()

    def refused(self, code: str) -> None:
        """Count a refusal; its code is one of a few words of ours."""
        self._refusals.labels(code).inc()

    def text(self) -> bytes:
        """Give all figures of the registry in Prometheus's text format."""
        return generate_latest(self._registry)


def _codes() -> Iterator[str]:
    """Give the codes of all foreseen errors."""
    kinds: list[type[errors.PenstockError]] = [errors.PenstockError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        yield kind.code


class Snapshot(Collector):
    """What the ledger and the broker say, as last asked; the question is asked when Prometheus asks."""

    def __init__(self) -> None:
        self._lanes: Sequence[LaneCount] = ()
        self._workers: Sequence[Worker] = ()
        self._broker: Broker | None = None
        self._now = 0.0

    def take(self, now: float, lanes: Sequence[LaneCount], workers: Sequence[Worker], broker: Broker) -> None:
        """Keep what was found just now."""
        self._now, self._lanes, self._workers, self._broker = now, lanes, workers, broker

    def collect(self) -> Iterator[Metric]:
        """Give what is kept as Prometheus's families."""
        build = GaugeMetricFamily("penstock_build_info", "The version that runs.", labels=["version"])
        build.add_metric((__version__,), 1)
        yield build
        yield from self._depths()
        yield from self._totals()
        yield from self._fleet()
        yield from self._faults()

    def _depths(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("penstock_queue_depth", "Runs that wait.", labels=_LANE)
        oldest = GaugeMetricFamily("penstock_queue_oldest_age_seconds", "Age of the oldest that waits.", labels=_LANE)
        running = GaugeMetricFamily("penstock_runs_running", "Runs that execute.", labels=_LANE)
        for lane in self._lanes:
            at = (lane.app, lane.lane.value)
            depth.add_metric(at, lane.queued)
            running.add_metric(at, lane.running)
            oldest.add_metric(at, max(0.0, self._now - lane.oldest_queued_at) if lane.oldest_queued_at else 0.0)
        yield from (depth, oldest, running)

    def _totals(self) -> Iterator[Metric]:
        leased = CounterMetricFamily("penstock_leases", "Attempts ever given to workers.", labels=_LANE)
        settled = CounterMetricFamily("penstock_attempts_settled", "Attempts that ended by a report.", labels=_LANE)
        service = CounterMetricFamily("penstock_service_seconds", "Seconds spent in those attempts.", labels=_LANE)
        for lane in self._lanes:
            at = (lane.app, lane.lane.value)
            leased.add_metric(at, lane.leased_total)
            settled.add_metric(at, lane.settled_total)
            service.add_metric(at, lane.service_seconds)
        yield from (leased, settled, service)

    def _fleet(self) -> Iterator[Metric]:
        workers = GaugeMetricFamily("penstock_workers", "Live workers.", labels=["app", "state"])
        gpus = GaugeMetricFamily("penstock_gpus_assigned", "GPUs that live workers hold.", labels=["app"])
        counts = Tally((worker.app, worker.state) for worker in self._workers)
        apps = sorted({lane.app for lane in self._lanes} | {worker.app for worker in self._workers})
        for app in apps:
            for state in sorted(LIVE):
                workers.add_metric((app, state.value), counts[app, state])
            gpus.add_metric((app,), sum(len(worker.gpu_ids) for worker in self._workers if worker.app == app))
        yield from (workers, gpus)

    def _faults(self) -> Iterator[Metric]:
        broker = self._broker
        yield CounterMetricFamily(
            "penstock_stale_reports", "Reports of attempts that had lost their lease.", broker.stale if broker else 0
        )
        yield CounterMetricFamily(
            "penstock_forged_reports", "Reports without the attempt's token.", broker.forged if broker else 0
        )
        yield CounterMetricFamily(
            "penstock_lost_hints", "Hints that the queue did not take.", broker.lost_hints if broker else 0
        )
