"""Both spellings of an app, with their aliases and short forms, into the one document that the rest knows."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from penstock.errors import Fault
from penstock.model import shape
from penstock.model.app import Spec
from penstock.model.candidate import Cloud, Machine, Overrides, PodPlacing, Pricing
from penstock.model.section import NonEmpty, Section

from .document import API_VERSION, Metadata

__all__ = ["Normal", "normalise"]

ENVELOPE: Final = frozenset({"apiVersion", "kind", "metadata", "spec"})
SCALING_ALIASES: Final = {
    "messagesPerWorker": "messagesPerInstance",
    "maxWorkers": "maxInstances",
    "minWorkers": "minInstances",
}


class Normal(NamedTuple):
    """A normalised document, and where its parts came from.

    Attributes:
        document: `apiVersion`, `kind`, `metadata`, `spec`; of yet unknown shape inside.
        moved: the pointer that a part had in the text, by its pointer in the document.
        faults: what could not be normalised.
    """

    document: dict[str, Any]
    moved: dict[str, str]
    faults: list[Fault]

    def origin(self, pointer: str) -> str:
        """Give the pointer into the text of what stands at a pointer into the document."""
        head, rest = pointer, ""
        while head and head not in self.moved:
            head, slash, last = head.rpartition("/")
            rest = f"{slash}{last}{rest}"
        return self.moved.get(head, head) + rest


def normalise(written: dict[str, Any]) -> Normal:
    """Give the document that was meant by what was written; what was written stays as it is."""
    normal = _enveloped(written) if ENVELOPE & written.keys() else _flat(written)
    spec = normal.document.get("spec")
    if not isinstance(spec, dict):
        return normal
    if isinstance(scaling := spec.get("scaling"), dict):
        spec["scaling"] = _scaling(scaling, normal)
    if "placement" in spec:
        spec["placement"] = _placement(spec["placement"], normal)
    if "batch" in spec and spec["batch"] is None:
        message = "expected a mapping, got nothing; write {} for the defaults, or leave the key out"
        normal.faults.append(Fault("/spec/batch", message))
    return normal


def _enveloped(written: dict[str, Any]) -> Normal:
    document = dict(written)
    if document.get("apiVersion") == "sluice/v1":
        document["apiVersion"] = API_VERSION
    if isinstance(spec := document.get("spec"), dict):
        document["spec"] = dict(spec)
    return Normal(document, {}, [])


def _flat(written: dict[str, Any]) -> Normal:
    own, others = Metadata.__struct_encode_fields__, Spec.__struct_encode_fields__
    metadata: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    for key, value in written.items():
        # A misspelt 'nmae' is sent where 'name' is known, so the hint can say so.
        section = metadata if key in own or (key not in others and shape.meant(key, own)) else spec
        section[key] = value
    document = {"apiVersion": API_VERSION, "kind": "App", "metadata": metadata, "spec": spec}
    return Normal(document, {"/metadata": "", "/spec": ""}, [])


def _scaling(written: dict[str, Any], normal: Normal) -> dict[str, Any]:
    at = "/spec/scaling"
    scaling: dict[str, Any] = {}
    for key, value in written.items():
        name = SCALING_ALIASES.get(key, key)
        if name != key and name in written:
            normal.faults.append(Fault(shape.step(at, key), f"'{key}' is another name of '{name}': give only one"))
            continue
        if name != key:
            normal.moved[shape.step(at, name)] = normal.origin(shape.step(at, key))
        scaling[name] = value
    return scaling


class ShortVm(Machine, frozen=True, kw_only=True):
    """The machines of a short placement; each region becomes a candidate."""

    provider: Cloud


class ShortKubernetes(PodPlacing, frozen=True, kw_only=True):
    """The cluster of a short placement."""

    provider: NonEmpty = "in-cluster"


class ShortPlacement(Section, frozen=True, kw_only=True):
    """A placement said by its mode and its prices, in place of a list of candidates."""

    mode: Literal["kubernetes", "vm", "both"]
    pricing: Annotated[tuple[Pricing, ...], Meta(min_length=1)] = (Pricing.ON_DEMAND,)
    vm: ShortVm | None = None
    kubernetes: ShortKubernetes = ShortKubernetes()
    policy: NonEmpty = "order"
    overrides: Overrides = Overrides()


SHORT_KEYS: Final = frozenset({"mode", "pricing", "vm", "kubernetes"})


def _placement(written: Any, normal: Normal) -> Any:
    at = "/spec/placement"
    if isinstance(written, list):
        normal.moved[f"{at}/candidates"] = normal.origin(at)
        return {"candidates": written}
    if not (isinstance(written, dict) and SHORT_KEYS & written.keys()):
        return written
    if isinstance(written.get("pricing"), str):
        written = written | {"pricing": [written["pricing"]]}
    try:
        short = msgspec.convert(written, ShortPlacement)
    except msgspec.ValidationError:
        normal.faults.extend(shape.faults(written, ShortPlacement, at=at))
        return {}
    if short.mode != "kubernetes" and short.vm is None:
        normal.faults.append(Fault(at, f"the mode '{short.mode}' needs the key 'vm'"))
    normal.moved[f"{at}/candidates"] = normal.origin(at)
    return {"policy": short.policy, "candidates": [one for price in short.pricing for one in _bought(short, price)]}


def _bought(short: ShortPlacement, pricing: Pricing) -> list[dict[str, Any]]:
    """Give the candidates for one way of paying: the cluster, then each region of the cloud."""
    candidates: list[dict[str, Any]] = []
    if short.mode != "vm":
        candidates.append(_candidate("kubernetes", msgspec.to_builtins(short.kubernetes), pricing))
    if short.mode != "kubernetes" and short.vm is not None:
        machine = msgspec.to_builtins(short.vm)
        candidates += [_candidate("vm", machine | {"regions": [region]}, pricing) for region in short.vm.regions]
    return candidates


def _candidate(kind: str, place: dict[str, Any], pricing: Pricing) -> dict[str, Any]:
    spec = {key: value for key, value in place.items() if key != "provider"} | {"pricing": pricing.value}
    provider = {"provider": place["provider"]} if "provider" in place else {}
    return {"type": kind, **provider, "spec": spec}
