"""The machines of a pretend cluster: what they hold, and which of them a worker goes to."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec

from penstock.model.app import Resources

__all__ = ["Group", "Machine", "Node", "Yard", "best"]


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
    """One machine, and what is taken of it."""

    def __init__(self, name: str, group: Group, *, ready: bool) -> None:
        self.name = name
        self.group = group
        self.ready = ready
        self.images: set[str] = set()
        self.idle_since = 0.0
        self._held: dict[str, tuple[Resources, tuple[int, ...]]] = {}

    @property
    def workers(self) -> tuple[str, ...]:
        """The uids of those that it holds."""
        return tuple(self._held)

    @property
    def gpus(self) -> tuple[int, ...]:
        """The ids of the GPUs that nobody has."""
        taken = {number for _, numbers in self._held.values() for number in numbers}
        return tuple(number for number in range(self.group.machine.gpu) if number not in taken)

    @property
    def cpu(self) -> float:
        """The CPU cores that nobody has."""
        return self.group.machine.cpu - sum(held.cpu for held, _ in self._held.values())

    @property
    def memory_gb(self) -> float:
        """The memory that nobody has."""
        return self.group.machine.memory_gb - sum(held.memory_gb for held, _ in self._held.values())

    def fits(self, wanted: Resources) -> bool:
        """Tell whether there is room just now."""
        room = wanted.cpu <= self.cpu and wanted.memory_gb <= self.memory_gb and wanted.gpu <= len(self.gpus)
        return self.ready and room and self.group.machine.suits(wanted)

    def take(self, uid: str, wanted: Resources) -> tuple[int, ...]:
        """Reserve room for a worker and give the ids of its GPUs."""
        numbers = self.gpus[: wanted.gpu]
        self._held[uid] = (wanted, numbers)
        return numbers

    def give_back(self, uid: str) -> None:
        """Free what a worker held."""
        self._held.pop(uid, None)


def best(nodes: Iterable[Node], wanted: Resources) -> Node | None:
    """Give the node with the least GPUs, then memory, left over once a worker is on it; None where there is no room."""
    room = [node for node in nodes if node.fits(wanted)]
    return min(room, key=lambda node: (len(node.gpus), node.memory_gb, node.name), default=None)


class Yard:
    """All nodes of a cluster, by group. It knows no time: whoever asks says what is sold out."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = {group.name: group for group in groups}
        self._nodes: dict[str, Node] = {}
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

    def add(self, group: Group, *, ready: bool = False) -> Node:
        """Put up a node; unless `ready`, it still has to boot."""
        node = Node(f"{group.name}-{next(self._numbers)}", group, ready=ready)
        self._nodes[node.name] = node
        return node

    def remove(self, node: Node) -> None:
        """Take a node down."""
        self._nodes.pop(node.name, None)

    def count(self, group: Group) -> int:
        """Give how many nodes of a group there are."""
        return sum(node.group == group for node in self._nodes.values())

    def promised(self) -> list[Node]:
        """Give what the booting nodes will be: to plan on, not to run on."""
        return [Node(node.name, node.group, ready=True) for node in self._nodes.values() if not node.ready]

    def suiting(self, wanted: Resources) -> list[Group]:
        """Give the groups of whose machines an empty one would do."""
        return [group for group in self.groups.values() if group.machine.suits(wanted)]
