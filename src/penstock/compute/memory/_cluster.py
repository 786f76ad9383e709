"""The pretend cluster itself: its API server, scheduler, autoscaler and kubelets, and the scripts that upset them.

      create          scheduler             kubelet              exit, kill, node lost
    ---------> PENDING ----------> PENDING ---------> RUNNING ----------------------> ENDED
               no node             on a node: pulls

A worker that no node has room for waits as CAPACITY while a node may still come, else as STOCKOUT.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Final

import msgspec

from penstock.compute._feed import Feed
from penstock.compute.driver import Order, Phase, Sighting
from penstock.errors import NotFound, Unavailable
from penstock.model.app import Resources
from penstock.model.ids import Clock, Randomness
from penstock.model.run import Reason

from ._agenda import Agenda
from ._climate import CALM, Climate, Dice
from ._life import Behaviour, Life, Log, Obedient
from ._news import Entry, News
from ._nodes import Group, Node, Yard

__all__ = ["Cluster"]

LOGS_KEPT: Final = 1_000
LAST_LINES: Final = 20
KILLED: Final = -9
ROOM: Final = (Group(name="node", least=1, most=1),)


class _Curse(msgspec.Struct, frozen=True):
    """What is wrong with every worker of one app."""

    code: int | None = None  # it exits so ...
    after_s: float = 0.0  # ... this long after its start
    reason: str = ""  # or it never starts, for this reason
    message: str = ""


class Cluster:
    """A cluster in memory. Its times are the clock's; nothing happens but in `tick` and in the calls made to it."""

    def __init__(
        self,
        *,
        clock: Clock,
        randomness: Randomness,
        groups: Iterable[Group] = ROOM,
        climate: Climate = CALM,
        behaviour: Behaviour | None = None,
    ) -> None:
        self.climate = climate
        self.behaviour: Behaviour = behaviour or Obedient()
        self._dice = Dice(randomness)
        self._agenda = Agenda(clock)
        self._news = News(self._agenda, self._dice)
        self._yard = Yard(groups)
        self._lives: dict[str, Life] = {}
        self._homeless: dict[str, Life] = {}  # those that no node has been found for
        self._logs: dict[str, Log] = {}
        self._sold_out: dict[str, float] = {}
        self._curses: dict[str, _Curse] = {}
        self._losing_replies = 0

    # ---------------------------------------------------------------- time

    def tick(self) -> None:
        """Let everything happen that is due by the clock, each at its own time, in order."""
        self._agenda.tick()

    @property
    def next_at(self) -> float | None:
        """When (monotonic seconds) something will happen next, so that a simulation may go there at once."""
        return self._agenda.next_at

    @property
    def journal(self) -> deque[Entry]:
        """The story so far: the same seed and calls give the same."""
        return self._news.journal

    # ---------------------------------------------------------------- what there is

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The machines, booting ones too, oldest first."""
        return self._yard.nodes

    def life(self, uid: str) -> Life:
        """Give a worker as it is now. Raises `NotFound`."""
        self.tick()
        if uid not in self._lives:
            raise NotFound(f"the cluster has no worker {uid}")
        return self._lives[uid]

    # ---------------------------------------------------------------- scripts

    def end(self, uid: str, code: int | None = 0, *, reason: str = "", message: str = "") -> None:
        """Have a worker end now, as if by itself."""
        self._end(self.life(uid), code, reason=reason, message=message)

    def run_out_of_memory(self, uid: str) -> None:
        """Have the kernel kill a worker for its memory."""
        self.end(uid, KILLED, reason=Reason.OOM, message="OOMKilled")

    def preempt(self, uid: str, notice_s: float = 30.0) -> None:
        """Take a worker's place away: a SIGTERM now, and the end after the notice."""
        life = self.life(uid)
        self._news.note("preempted", uid)
        self._warn(life)
        self._agenda.later(notice_s, lambda: self._lose(life, "Its node was preempted."))

    def preempt_node(self, name: str, notice_s: float = 30.0) -> None:
        """Take a machine back, as the provider of spot capacity does: all on it get a SIGTERM now, and lose it then."""
        node = self._node(name)
        self._news.note("node preempted", name)
        for uid in node.workers:
            self._warn(self._lives[uid])
        self._agenda.later(notice_s, lambda: self._remove(node))

    def lose_node(self, name: str) -> None:
        """Have a machine vanish with all that runs on it."""
        self._remove(self._node(name))

    def _warn(self, life: Life) -> None:
        if life.phase is Phase.RUNNING:
            self.behaviour.terminate(life)

    def _node(self, name: str) -> Node:
        self.tick()
        node = self._yard.get(name)
        if node is None:
            raise NotFound(f"the cluster has no node {name}")
        return node

    def _remove(self, node: Node) -> None:
        if self._yard.get(node.name) is not node:
            return
        name = node.name
        self._yard.remove(node)
        self._news.note("node lost", name)
        for uid in node.workers:
            self._lose(self._lives[uid], f"Its node {name} is gone.")
        if self._yard.count(node.group) < node.group.least:
            self._boot(node.group)
        self._schedule()

    def stock_out(self, group: str, for_s: float = float("inf")) -> None:
        """Have the provider sell no node of a group for so long; those that boot already will come."""
        self.tick()
        self._sold_out[group] = self._agenda.at + for_s
        self._news.note("sold out", group)
        self._schedule()
        if for_s != float("inf"):
            self._agenda.later(for_s, self._schedule)

    def restock(self, group: str) -> None:
        """Have the provider sell nodes of a group again."""
        self.tick()
        self._sold_out.pop(group, None)
        self._schedule()

    def crash_loop(self, app: str, code: int = 1, *, after_s: float = 0.0, message: str = "") -> None:
        """Have every worker of an app exit soon after its start, until `heal`."""
        self._curses[app] = _Curse(code=code, after_s=after_s, message=message)

    def break_image(self, app: str) -> None:
        """Have no node find an app's image, until `heal`."""
        self._curses[app] = _Curse(reason=Reason.IMAGE_PULL, message="ImagePullBackOff: the image is not found")

    def misconfigure(self, app: str, message: str) -> None:
        """Have an app's workers wait for something that is not there, as a Secret, until `heal`."""
        self._curses[app] = _Curse(reason=Reason.CONFIG, message=message)

    def heal(self, app: str) -> None:
        """Take off what is wrong with an app; those of its workers that wait go on."""
        self.tick()
        self._curses.pop(app, None)
        for life in tuple(self._lives.values()):
            stuck = life.phase is Phase.PENDING and life.node is not None and life.reason
            if life.order.app.name == app and stuck:
                self._kubelet(life)
        self.tick()

    def cut(self) -> None:
        """Have nobody reach the cluster: calls are refused, news are lost. Its workers go on."""
        self._news.cut = True

    def mend(self) -> None:
        """Have the cluster be reached again."""
        self._news.cut = False

    def lose_replies(self, count: int = 1) -> None:
        """Have the next creates succeed and their replies get lost."""
        self._losing_replies += count

    def drop_sightings(self, count: int = 1) -> None:
        """Have the next sightings reach nobody."""
        self._news.dropping += count

    # ---------------------------------------------------------------- the API server, for the driver

    def attach(self, feed: Feed) -> None:
        """Have a feed be told what is seen."""
        self._news.feeds[feed] = None

    def detach(self, feed: Feed) -> None:
        """Tell a feed no more."""
        self._news.feeds.pop(feed, None)

    def reach(self) -> None:
        """Let time pass up to a call that arrives. Raises `Unavailable` where it does not."""
        self.tick()
        if self._news.cut or self._dice.happens(self.climate.calls_refused):
            raise Unavailable("the cluster can't be reached")

    def create(self, order: Order) -> None:
        """Take a worker in; one of this uid that is there already stays as it is. May raise for a lost reply."""
        if order.uid not in self._lives:
            life = self._lives[order.uid] = Life(order, self._exit)
            self._keep_log(life)
            self._see(life, "created")
            self._agenda.later(self._dice.within(self.climate.schedule), lambda: self._place(life))
            self.tick()
        if self._losing_replies or self._dice.happens(self.climate.replies_lost):
            self._losing_replies = max(0, self._losing_replies - 1)
            raise Unavailable("the cluster's reply was lost")

    def sightings(self) -> list[Sighting]:
        """Give all workers as they are, whatever news are under way."""
        return [life.sighting for life in self._lives.values()]

    def terminate(self, uid: str) -> None:
        """Send a worker SIGTERM; one that does not run yet is taken away."""
        life = self._lives.get(uid)
        if life is None or life.phase is Phase.ENDED:
            return
        self._news.note("terminated", uid)
        if life.phase is Phase.PENDING:
            self._end(life, 0, message="It was no longer wanted before it had started.")
        self._warn(life)

    def delete(self, uid: str, grace_s: float) -> None:
        """Send a worker SIGTERM, and SIGKILL after the grace."""
        self.terminate(uid)
        if (life := self._lives.get(uid)) is not None:
            self._agenda.later(grace_s, lambda: self._end(life, KILLED))
            self.tick()

    def forget(self, uid: str) -> None:
        """Drop an ended worker."""
        life = self._lives.get(uid)
        if life is not None and life.phase is Phase.ENDED:
            del self._lives[uid]
            self._news.forget(uid)

    def read_log(self, uid: str, tail: int, *, follow: bool) -> AsyncGenerator[str]:
        """Give a worker's lines. Raises `NotFound`."""
        if uid not in self._logs:
            raise NotFound(f"there is no log of a worker {uid}")
        return self._logs[uid].read(tail, follow=follow)

    # ---------------------------------------------------------------- scheduler and autoscaler

    def _schedule(self) -> None:
        """Try to place every worker that waits for a node, first come first served."""
        for life in tuple(self._homeless.values()):
            self._place(life)

    def _fill(self, node: Node) -> None:
        """Offer a node that gained room to those that wait, first come first served."""
        for life in tuple(self._homeless.values()):
            if node.fits(life.order.app.resources):
                self._settle(life, node)

    def _place(self, life: Life) -> None:
        """Give a worker a node, or have one booted for it; else say what it waits for."""
        if life.phase is not Phase.PENDING or life.node is not None:
            return
        wanted = life.order.app.resources
        self._homeless[life.uid] = life
        if (node := self._yard.room(wanted)) is not None:
            self._settle(life, node)
            return
        promised = self._yard.promise(life.uid, wanted)
        if promised is None and (group := self._for_sale(wanted)):
            self._boot(group)
            promised = self._yard.promise(life.uid, wanted)
        if promised is not None:
            self._wait(life, Reason.CAPACITY, f"Waits for node {promised.name}.")
        else:
            self._wait(life, Reason.STOCKOUT, self._why_none(wanted))

    def _settle(self, life: Life, node: Node) -> None:
        """Put a worker on a node."""
        del self._homeless[life.uid]
        self._yard.release(life.uid)
        life.gpu_ids = node.take(life.uid, life.order.app.resources)
        life.node, life.reason, life.message = node.name, "", ""
        self._see(life, "scheduled")
        self._kubelet(life)

    def _why_none(self, wanted: Resources) -> str:
        sold_out = [group.name for group in self._yard.suiting(wanted) if self._is_sold_out(group)]
        if sold_out:
            return f"ZONE_RESOURCE_POOL_EXHAUSTED: {', '.join(sold_out)}"
        return f"NotTriggerScaleUp: 0/{len(self._yard.nodes)} nodes have room"

    def _for_sale(self, wanted: Resources) -> Group | None:
        """Give the first group that suits, may grow and is not sold out."""
        for group in self._yard.suiting(wanted):
            if self._yard.count(group) < group.most and not self._is_sold_out(group):
                return group
        return None

    def _is_sold_out(self, group: Group) -> bool:
        return self._sold_out.get(group.name, float("-inf")) > self._agenda.at

    def _wait(self, life: Life, reason: Reason, message: str) -> None:
        if (life.reason, life.message) != (reason, message):
            life.reason, life.message = reason, message
            self._see(life, f"waits: {reason}")

    def _boot(self, group: Group) -> Node:
        node = self._yard.add(group)
        self._news.note("booting", node.name)
        self._agenda.later(self._dice.within(self.climate.boot), lambda: self._up(node))
        return node

    def _up(self, node: Node) -> None:
        if self._yard.get(node.name) is not node:
            return
        self._news.note("up", node.name)
        promised = self._yard.boot(node)
        self._fill(node)
        for uid in promised:  # those whose place another took
            self._place(self._lives[uid])
        self._check_idle(node)

    def _check_idle(self, node: Node) -> None:
        """Give an empty node back after its time, where the group has more than its least."""
        if not node.workers:
            node.idle_since = self._agenda.at
            self._agenda.later(node.group.idle_s, lambda: self._drop_idle(node))

    def _drop_idle(self, node: Node) -> None:
        idle = not node.workers and self._agenda.at - node.idle_since >= node.group.idle_s
        if idle and self._yard.get(node.name) is node and self._yard.count(node.group) > node.group.least:
            self._yard.remove(node)
            self._news.note("given back", node.name)
            self._schedule()

    # ---------------------------------------------------------------- kubelet

    def _kubelet(self, life: Life) -> None:
        """Pull and start a worker that has a node, unless its app is cursed never to start."""
        curse = self._curses.get(life.order.app.name)
        if curse is not None and curse.reason:
            self._wait(life, Reason(curse.reason), curse.message)
            return
        life.reason, life.message = "", ""
        node = self._yard.get(life.node)
        assert node is not None, "a worker ends with its node"
        delay = self._dice.within(self.climate.start)
        if life.image not in node.images:
            delay += self._dice.within(self.climate.pull)
        self._agenda.later(delay, lambda: self._run(life, node))

    def _run(self, life: Life, node: Node) -> None:
        if life.phase is not Phase.PENDING:
            return
        node.images.add(life.image)
        life.phase = Phase.RUNNING
        life.started_at = self._agenda.wall
        self._see(life, "running")
        self._fate(life)
        self.behaviour.start(life)

    def _fate(self, life: Life) -> None:
        """Set what will end a worker that has just started, if anything is known to."""
        curse = self._curses.get(life.order.app.name)
        if curse is not None and curse.code is not None:
            code, message = curse.code, curse.message
            self._agenda.later(curse.after_s, lambda: self._end(life, code, message=message))
        if self.climate.preempted_per_hour > 0:
            # Evenly drawn lives with this mean: rough, and enough to upset a controller.
            mean_s = 3600.0 / self.climate.preempted_per_hour
            self._agenda.later(2 * mean_s * self._dice.share(), lambda: self._preempt_if_running(life))

    def _preempt_if_running(self, life: Life) -> None:
        if life.phase is Phase.RUNNING:
            self.preempt(life.uid)

    def _exit(self, life: Life, code: int) -> None:
        self.tick()
        self._end(life, code)

    def _lose(self, life: Life, message: str) -> None:
        self._end(life, None, reason=Reason.LEASE_LOST, message=message)

    def _end(self, life: Life, code: int | None, *, reason: str = "", message: str = "") -> None:
        if life.phase is Phase.ENDED:
            return
        ran = life.phase is Phase.RUNNING
        life.phase, life.exit_code, life.reason = Phase.ENDED, code, reason
        life.message = message or ("" if code == 0 else "\n".join(life.log.last(LAST_LINES)))
        life.log.finish()
        if ran:
            self.behaviour.kill(life)
        self._see(life, f"ended: {code}")
        self._homeless.pop(life.uid, None)
        self._yard.release(life.uid)
        if (node := self._yard.get(life.node)) is not None:
            node.give_back(life.uid)
            self._fill(node)
            self._check_idle(node)

    def _see(self, life: Life, what: str) -> None:
        self._news.note(what, life.uid)
        self._news.see(life.sighting, self.climate)

    def _keep_log(self, life: Life) -> None:
        self._logs.pop(life.uid, None)
        self._logs[life.uid] = life.log
        for uid in tuple(itertools.islice(self._logs, max(0, len(self._logs) - LOGS_KEPT))):
            if uid not in self._lives:
                del self._logs[uid]
