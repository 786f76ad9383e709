"""A pretend cluster: node groups that boot, images that are pulled, stockouts, preemptions, lost replies, late news.

Nothing in it waits: time is the clock that was passed in, moved on by `Cluster.tick`; chance is the randomness that was
passed in. The same seed and the same calls make the same story.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.errors import Misconfigured
from penstock.model.ids import Clock, Randomness

from ._climate import CALM, Climate, Span
from ._cluster import Cluster
from ._driver import MemoryCompute
from ._life import Behaviour, Life, Obedient
from ._news import Entry
from ._nodes import Group, Machine

__all__ = [
    "CALM",
    "Behaviour",
    "Climate",
    "Cluster",
    "Entry",
    "Group",
    "Life",
    "Machine",
    "MemoryCompute",
    "Obedient",
    "Span",
    "connect",
]


def connect(
    url: str,
    *,
    clock: Clock,
    randomness: Randomness,
    base_env: Mapping[str, str] | None = None,
    cluster: Cluster | None = None,
    pulse_s: float = 0.0,
) -> MemoryCompute:
    """Give the driver for `memory:`, of a cluster of its own or of the one given.

    Time passes in the cluster with every call; with `pulse_s` also by itself, so often in real seconds.
    """
    del base_env  # nothing real is started
    if url.rstrip("/") != "memory:":
        raise Misconfigured(f"{url!r} says too much: write memory:")
    if cluster is None:
        return MemoryCompute(Cluster(clock=clock, randomness=randomness), shared=False, pulse_s=pulse_s)
    return MemoryCompute(cluster, shared=True, pulse_s=pulse_s)
