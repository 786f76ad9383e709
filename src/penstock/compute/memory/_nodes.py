"""The machines of a pretend cluster: what they hold, and which of them a worker goes to."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

from penstock.model.app import Resources

__all__ = ["Group", "Machine", "Node", "Yard"]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What one node of a group has to offer."""

    cpu: float = 64.0
    memory_gb: float = 256.0
    gpu: int = 0
    gpu_type: str = ""
    gpu_memory_gb: float = 0.0

    def suits(self, wanted: Resources) -> bool:
        """Tell whether an empty machine of this kind could hold a worker."""
        fits = wanted.cpu <= self.cpu and wanted.memory_gb <= self.memory_gb and wanted.gpu <= self.gpu
        if not wanted.gpu:
            return fits
        return fits and wanted.gpu_memory_gb <= self.gpu_memory_gb and wanted.gpu_type in {"", self.gpu_type}


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes of one kind: `least` are always there, and up to `most` are booted as workers call for them."""

    name: str
    machine: Machine = Machine()
    least: int = 0
    most: int = 1
    idle_s: float = 600.0  # an empty node above `least` goes after so long


class Node:
    """One machine, and what of it nobody has."""

    def __init__(self, name: str, group: Group, *, ready: bool) -> None:
        self.name = name
        self.group = group
        self.ready = ready
        self.images: set[str] = set()
        self.idle_since = 0.0
        self._held: dict[str, tuple[Resources, tuple[int, ...]]] = {}
        self._count()

    @property
    def workers(self) -> tuple[str, ...]:
        """The uids of those that it holds."""
        return tuple(self._held)

    def fits(self, wanted: Resources) -> bool:
        """Tell whether there is room just now."""
        room = wanted.gpu <= len(self.gpus) and wanted.cpu <= self.cpu and wanted.memory_gb <= self.memory_gb
        return room and self.ready and self.group.machine.suits(wanted)

    def take(self, uid: str, wanted: Resources) -> tuple[int, ...]:
        """Reserve room for a worker and give the ids of its GPUs."""
        numbers = self.gpus[: wanted.gpu]
        self._held[uid] = (wanted, numbers)
        self._count()
        return numbers

    def give_back(self, uid: str) -> None:
        """Free what a worker held."""
        self._held.pop(uid, None)
        self._count()

    def _count(self) -> None:
        """Work out what is left; from the start each time, so that no rounding adds up."""
        machine = self.group.machine
        taken = {number for _, numbers in self._held.values() for number in numbers}
        self.gpus = tuple(number for number in range(machine.gpu) if number not in taken)
        self.cpu = machine.cpu - sum(held.cpu for held, _ in self._held.values())
        self.memory_gb = machine.memory_gb - sum(held.memory_gb for held, _ in self._held.values())


def best(nodes: Iterable[Node], wanted: Resources) -> Node | None:
    """Give the node with the least GPUs, then memory, left over once a worker is on it; None where there is no room."""
    room = [node for node in nodes if node.fits(wanted)]
    return min(room, key=lambda node: (len(node.gpus), node.memory_gb, node.name), default=None)


class Yard:
    """All nodes of a cluster, by group, and what is promised of those that still boot. It knows no time."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = {group.name: group for group in groups}
        self._nodes: dict[str, Node] = {}
        self._plans: dict[str, Node] = {}  # what each booting node will be
        self._promised: dict[str, Node] = {}  # the plan that a waiting worker has its place in
        self._counts = dict.fromkeys(self.groups, 0)
        self._numbers = itertools.count(1)
        for group in self.groups.values():
            for _ in range(group.least):
                self.add(group, ready=True)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, booting ones too, oldest first."""
        return tuple(self._nodes.values())

    def get(self, name: str | None) -> Node | None:
        """Give a node, if it is still there."""
        return self._nodes.get(name or "")

    def count(self, group: Group) -> int:
        """Give how many nodes of a group there are."""
        return self._counts[group.name]

    def room(self, wanted: Resources) -> Node | None:
        """Give the node that a worker goes to now, if one has room."""
        return best(self._nodes.values(), wanted)

    def suiting(self, wanted: Resources) -> list[Group]:
        """Give the groups of whose machines an empty one would do."""
        return [group for group in self.groups.values() if group.machine.suits(wanted)]

    def add(self, group: Group, *, ready: bool = False) -> Node:
        """Put up a node; unless `ready`, it still has to boot."""
        node = Node(f"{group.name}-{next(self._numbers)}", group, ready=ready)
        self._nodes[node.name] = node
        self._counts[group.name] += 1
        if not ready:
            self._plans[node.name] = Node(node.name, group, ready=True)
        return node

    def boot(self, node: Node) -> tuple[str, ...]:
        """Make a node ready; gives the workers that it was promised to, and are promised nothing now."""
        node.ready = True
        return self._drop_plan(node)

    def remove(self, node: Node) -> tuple[str, ...]:
        """Take a node down; gives the workers that it was promised to."""
        del self._nodes[node.name]
        self._counts[node.group.name] -= 1
        return self._drop_plan(node)

    def promise(self, uid: str, wanted: Resources) -> Node | None:
        """Promise a waiting worker its place on a node that boots, once; None where all of them are promised away."""
        plan = self._promised.get(uid) or best(self._plans.values(), wanted)
        if plan is not None and uid not in self._promised:
            plan.take(uid, wanted)
            self._promised[uid] = plan
        return plan

    def release(self, uid: str) -> None:
        """Take a promise back; the worker needs it no more."""
        if (plan := self._promised.pop(uid, None)) is not None:
            plan.give_back(uid)

    def _drop_plan(self, node: Node) -> tuple[str, ...]:
        plan = self._plans.pop(node.name, None)
        uids = plan.workers if plan is not None else ()
        for uid in uids:
            del self._promised[uid]
        return uids
