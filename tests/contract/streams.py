"""How a queue in Redis Streams is tried, on whichever server: its rig and its machine, with time in the hand."""

import itertools
from contextlib import asynccontextmanager

from hypothesis import strategies as st
from hypothesis.stateful import rule
from redis import Redis

from penstock.queue.redis import connect
from penstock.testing.clock import ManualClock
from penstock.testing.process import HOST
from penstock.testing.suites.queue import QueueRig
from penstock.testing.suites.queue_machine import QueueMachine

_PREFIXES = (f"test-{number}" for number in itertools.count())


def age(server, prefix, seconds):
    """Have all that is taken be taken so much longer ago."""
    with Redis(HOST, server.port) as back:
        for key in back.scan_iter(f"{prefix}:*:credits"):
            for group in back.xinfo_groups(key):
                for entry in back.xpending_range(key, group["name"], "-", "+", 10_000):
                    idle = entry["time_since_delivered"] + int(seconds * 1000)
                    back.xclaim(key, group["name"], "penstock", 0, [entry["message_id"]], idle=idle, justid=True)


def url_of(server, prefix):
    return f"redis://{HOST}:{server.port}/0?visibility=30&poll=0.2&prefix={prefix}"


@asynccontextmanager
async def streams(server):
    """Give a rig on queues that no other test has."""
    prefix = next(_PREFIXES)
    url = url_of(server, prefix)

    async def count(queue):
        with Redis(HOST, server.port) as back:
            return back.xlen(f"{prefix}:{{{queue}}}:credits")

    async def past_visibility():
        age(server, prefix, 30)

    driver = connect(url, ManualClock(), {})
    await driver.open()
    yield QueueRig(
        driver=driver,
        count=count,
        past_visibility=past_visibility,
        another=lambda: connect(url, ManualClock(), {}),
        url=url,
    )
    await driver.close()


class StreamsMachine(QueueMachine):
    server = None

    def make(self, clock):
        self.prefix = getattr(self, "prefix", None) or next(_PREFIXES)
        return connect(url_of(self.server, self.prefix), clock, {})

    @rule(share=st.sampled_from((0.1, 0.5, 1.0)))
    def wait(self, share):
        age(self.server, self.prefix, self.visibility_s * share)
        super().wait(share)
