"""Where an app's workers may start: an ordered list of candidates, and the policy that chooses among them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta, field

from .section import AtLeastZero, Count, KeyName, LabelKey, LabelValue, NonEmpty, Section, Word

__all__ = [
    "Candidate",
    "Capacity",
    "Cloud",
    "KubernetesCandidate",
    "KubernetesSpec",
    "Machine",
    "Overrides",
    "Placement",
    "PodPlacing",
    "PoolCandidate",
    "PoolSpec",
    "Pricing",
    "Toleration",
    "VmCandidate",
    "VmSpec",
]


class Pricing(StrEnum):
    """How capacity is bought."""

    SPOT = "spot"  # cheap, and taken back at short notice
    ON_DEMAND = "on-demand"  # kept until it is given back


class Cloud(StrEnum):
    """Who rents out machines."""

    GCE = "gce"  # Google Compute Engine
    EC2 = "ec2"  # Amazon EC2


class Toleration(Section, frozen=True, kw_only=True):
    """A taint that worker pods put up with, as Kubernetes spells it."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: Count | None = None


class Overrides(Section, frozen=True, kw_only=True):
    """What an app does differently on one candidate; what is left out stays as the app says."""

    image: Annotated[Word, Meta(description="Another image, for instance one built for this GPU.")] = ""
    env: Annotated[dict[KeyName, str], Meta(description="Values added to the app's, or put in their place.")] = field(
        default_factory=dict
    )
    args: Annotated[tuple[str, ...], Meta(description="Arguments in place of the app's.")] = ()
    instances: Annotated[Count, Meta(description="Replicas per worker; 0 = as the app says.")] = 0


class Capacity(Section, frozen=True, kw_only=True):
    """What is the same for candidates of every type."""

    name: Annotated[
        Word, Meta(description="A name for policies and people; a stable key is derived where it is left out.")
    ] = ""
    attributes: Annotated[
        dict[str, float], Meta(description="Numbers that a policy ranks and bounds by, as cost_usd or memory_gb.")
    ] = field(default_factory=dict)
    strings: Annotated[dict[str, str], Meta(description="Words about the candidate, as tier or status.")] = field(
        default_factory=dict
    )


class PodPlacing(Section, frozen=True, kw_only=True):
    """Which machines of a cluster suit."""

    node_selectors: Annotated[
        tuple[dict[LabelKey, LabelValue], ...], Meta(description="Node selectors, tried in order.")
    ] = ()
    tolerations: Annotated[tuple[Toleration, ...], Meta(description="Taints that the pods put up with.")] = ()
    affinity: Annotated[dict[str, Any], Meta(description="A Kubernetes affinity, passed on as it is.")] = field(
        default_factory=dict
    )
    schedule_grace_seconds: Annotated[
        AtLeastZero, Meta(description="Seconds that a pod may stay unschedulable before it counts as a stockout.")
    ] = 180.0


class KubernetesSpec(PodPlacing, frozen=True, kw_only=True):
    """How pods are placed in a cluster."""

    pricing: Annotated[Pricing, Meta(description="How the cluster's machines are bought.")] = Pricing.ON_DEMAND


class KubernetesCandidate(Capacity, frozen=True, kw_only=True, tag_field="type", tag="kubernetes"):
    """Pods (Jobs for archetype job) in a cluster."""

    type: ClassVar[Literal["kubernetes"]] = "kubernetes"

    provider: Annotated[NonEmpty, Meta(description="in-cluster, or the name of a registered cluster.")] = "in-cluster"
    spec: Annotated[KubernetesSpec, Meta(description="How the pods are placed.")] = KubernetesSpec()
    overrides: Annotated[Overrides, Meta(description="What the app does differently here.")] = Overrides()


class Machine(Section, frozen=True, kw_only=True):
    """Which virtual machine is rented, and where."""

    machine_type: Annotated[NonEmpty, Meta(description="The cloud's machine type, as g2-standard-8.")]
    regions: Annotated[
        tuple[NonEmpty, ...], Meta(min_length=1, description="Regions or zones of the cloud, tried in order.")
    ]
    accelerator_type: Annotated[str, Meta(description="The cloud's name of a GPU that is attached.")] = ""
    boot_image: Annotated[str, Meta(description="The disk image; empty = the deployment's.")] = ""
    linger_seconds: Annotated[AtLeastZero, Meta(description="Seconds that an idle machine is kept.")] = 300.0
    max_vms: Annotated[Count, Meta(description="Most machines at once; 0 = unbounded.")] = 0


class VmSpec(Machine, frozen=True, kw_only=True):
    """Which virtual machine is rented, where, and how it is paid for."""

    pricing: Annotated[Pricing, Meta(description="How the machine is bought.")] = Pricing.ON_DEMAND


class VmCandidate(Capacity, frozen=True, kw_only=True, tag_field="type", tag="vm"):
    """Virtual machines, rented while there is work."""

    type: ClassVar[Literal["vm"]] = "vm"

    provider: Annotated[Cloud, Meta(description="The cloud.")]
    spec: Annotated[VmSpec, Meta(description="The machine.")]
    overrides: Annotated[Overrides, Meta(description="What the app does differently here.")] = Overrides()


class PoolSpec(Section, frozen=True, kw_only=True):
    """Nothing: a pool's nodes say themselves what they offer."""


class PoolCandidate(Capacity, frozen=True, kw_only=True, tag_field="type", tag="pool"):
    """Nodes that you own."""

    type: ClassVar[Literal["pool"]] = "pool"

    provider: Annotated[NonEmpty, Meta(description="The pool's name.")]
    spec: Annotated[PoolSpec, Meta(description="Empty.")] = PoolSpec()
    overrides: Annotated[Overrides, Meta(description="What the app does differently here.")] = Overrides()


Candidate: TypeAlias = KubernetesCandidate | VmCandidate | PoolCandidate


class Placement(Section, frozen=True, kw_only=True):
    """The candidates of an app in order of preference, and how one is chosen."""

    policy: Annotated[NonEmpty, Meta(description="The pipeline of filters and rankers over the candidates.")] = "order"
    candidates: Annotated[
        tuple[Candidate, ...], Meta(description="Where workers may start; empty = the deployment's default.")
    ] = ()
