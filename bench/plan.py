"""The controller's pure plan: 10,000 apps with 5 candidates each, and 50,000 workers.

    python bench/plan.py [--apps N] [--repeat N] [--json FILE]

Printed beside a floor taken in the same run: the least that plain Python must do to look at every worker and every
candidate once. Bar: 0.5 s; goal: 0.1 s; apps that did not change cost nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from penstock.model.app import App, Scaling
from penstock.model.fleet import Worker, WorkerState
from penstock.model.placement import Code, Drop
from penstock.placement.choice import Offer
from penstock.placement.plan import plan
from penstock.placement.snapshot import AppView, Backlog, Snapshot

NOW = 1_700_000_000.0
STATES = (WorkerState.BUSY, WorkerState.BUSY, WorkerState.IDLE, WorkerState.STARTING, WorkerState.BUSY)
SOLD_OUT = Drop(Code.STOCKED_OUT, "sold out until 12:00")


def world(apps: int, workers_each: int, candidates_each: int) -> Snapshot:
    """Give a busy deployment: every app has workers and work, and every third needs more workers than it has."""
    offers = tuple(Offer(f"candidate-{n}", SOLD_OUT if n < 2 else None) for n in range(candidates_each))
    return Snapshot(NOW, tuple(busy_app(n, workers_each, offers) for n in range(apps)))


def busy_app(number: int, workers_each: int, offers: tuple[Offer, ...]) -> AppView:
    name = f"app-{number}"
    visible = 200 if number % 3 == 0 else 1
    return AppView(
        app=App(name=name, handler="model:Model", scaling=Scaling(max_instances=50)),
        generation=2,
        infer=Backlog(visible=visible, leased=3, settled=100, service_s=50.0),
        workers=tuple(worker(name, n) for n in range(workers_each)),
        offers=offers,
    )


def worker(app: str, number: int) -> Worker:
    return Worker(
        uid=f"w-{app}-{number}",
        app=app,
        spec_generation=2,
        state=STATES[number % len(STATES)],
        started_at=NOW - 100.0,
        ready_at=NOW - 90.0,
        leases=7,
    )


def floor(snapshot: Snapshot) -> int:
    """Look at every worker and every candidate once: what no planner in plain Python can go below."""
    starting = WorkerState.STARTING
    total = 0
    for view in snapshot.apps:
        pending = 0
        for each in view.workers:
            if each.state is starting:
                pending += 1
        for offer in view.offers:
            if offer.dropped is None:
                total += pending
    return total


def measure(work: Callable[[], object], repeat: int) -> float:
    """Give the median of so many runs, in seconds."""
    times = []
    for _ in range(repeat):
        gc.collect()
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--apps", type=int, default=10_000)
    options.add_argument("--repeat", type=int, default=7)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    snapshot = world(asked.apps, workers_each=5, candidates_each=5)
    settled = settle(snapshot)
    known = plan(settled).apps
    figures = {
        "floor_s": measure(lambda: floor(snapshot), asked.repeat),
        "plan_s": measure(lambda: plan(snapshot), asked.repeat),
        "unchanged_s": measure(lambda: plan(settled, known), asked.repeat),
    }
    starts = sum(1 for _ in plan(snapshot).actions)
    print(f"{asked.apps} apps x 5 candidates, {5 * asked.apps} workers; {starts} actions; medians of {asked.repeat}")
    print(f"  floor (plain Python, each looked at once)  {1000 * figures['floor_s']:8.1f} ms")
    print(f"  plan, every app                            {1000 * figures['plan_s']:8.1f} ms   bar 500, goal 100")
    print(f"  plan, nothing changed                      {1000 * figures['unchanged_s']:8.1f} ms")
    print(f"  plan / floor                               {figures['plan_s'] / figures['floor_s']:8.1f} x")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def settle(snapshot: Snapshot) -> Snapshot:
    """Give the same deployment without need: the plan for it asks for nothing."""
    apps = tuple(
        AppView(
            app=view.app,
            generation=view.generation,
            infer=Backlog(leased=3),
            workers=tuple(each for each in view.workers if each.state is not WorkerState.STARTING),
            offers=view.offers,
        )
        for view in snapshot.apps
    )
    return Snapshot(snapshot.now, apps)


if __name__ == "__main__":
    main()
