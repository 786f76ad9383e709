"""What the types of an app's spec can't say: names that are taken, and fields that contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from penstock.errors import Fault

from . import shape
from .app import App, EnvFrom, Mount, Server, WorkerType, encode, pointer

__all__ = ["RESERVED_NAMES", "contradictions", "faults"]

_ROUTES: Final = (
    "apps runs jobs batches workers nodes pools tenants keys audit whoami candidates stockouts decisions events stats "
    "files models ui console docs openapi metrics health internal algorithm schema chat completions embeddings "
    "responses images audio"
)
RESERVED_NAMES: Final = frozenset(_ROUTES.split())
"""Names that routes of the HTTP API begin with, so no app may bear them."""

CONTROL_PREFIX: Final = "penstock"  # of the control store, which may share a bucket with the data


def faults(app: App) -> list[Fault]:
    """Give everything wrong with an app however it was made, with pointers into the normalised document."""
    plain = msgspec.json.decode(encode(app))
    wrong = [Fault(pointer(fault.pointer), fault.message) for fault in shape.faults(plain, App)]
    return wrong + contradictions(app)


def contradictions(app: App) -> list[Fault]:
    """Give what is wrong with an app whose fields are each right by themselves."""
    return [fault for rule in _RULES for fault in rule(app)]


def _name_is_free(app: App) -> Iterator[Fault]:
    if app.name in RESERVED_NAMES:
        yield Fault("/metadata/name", f"the name '{app.name}' is reserved for a route of the HTTP API")


def _has_a_program(app: App) -> Iterator[Fault]:
    match app.worker.type:
        case WorkerType.HANDLER if not (app.handler or app.image):
            yield Fault("/spec", "a worker of type handler needs a 'handler' (or an 'image' that holds one)")
        case WorkerType.JOB if not (app.command or app.args or app.handler or app.image):
            yield Fault("/spec", "a worker of type job needs a 'command', 'args', a 'handler' or an 'image'")
        case WorkerType.SIDECAR if not (app.image or app.command):
            yield Fault("/spec", "a worker of type sidecar needs the 'image' or the 'command' of its model server")
        case _:
            pass


def _server_belongs_to_a_sidecar(app: App) -> Iterator[Fault]:
    if app.worker.type is not WorkerType.SIDECAR and app.worker.server != Server():
        yield Fault("/spec/worker/server", f"only a sidecar has a server; this worker's type is {app.worker.type}")


def _sources_are_single(app: App) -> Iterator[Fault]:
    for index, source in enumerate(app.env_from):
        if _named(source) != 1:
            yield Fault(f"/spec/envFrom/{index}", "name exactly one of secret, configMap")
    for index, mount in enumerate(app.mounts):
        if _named(mount) != 1:
            yield Fault(f"/spec/mounts/{index}", "name exactly one of secret, configMap, emptyDir, pvc")


def _named(source: EnvFrom | Mount) -> int:
    count = bool(source.secret) + bool(source.config_map)
    if isinstance(source, Mount):
        count += bool(source.pvc) + (source.empty_dir is not None)
    return count


def _mounts_are_apart(app: App) -> Iterator[Fault]:
    taken: set[str] = set()
    for index, mount in enumerate(app.mounts):
        path = mount.path.rstrip("/")
        if path in taken:
            yield Fault(f"/spec/mounts/{index}/path", f"something else is mounted at {shape.shown(mount.path)}")
        taken.add(path)


def _prefix_is_not_the_control_store(app: App) -> Iterator[Fault]:
    if app.storage.prefix.partition("/")[0] == CONTROL_PREFIX:
        yield Fault("/spec/storage/prefix", f"'{CONTROL_PREFIX}/' belongs to the control store; choose another prefix")


def _bounds_are_in_order(app: App) -> Iterator[Fault]:
    scaling, retry = app.scaling, app.retry
    if 0 < scaling.max_instances < scaling.min_instances:
        yield Fault("/spec/scaling/maxInstances", f"must be at least minInstances ({scaling.min_instances}), or 0")
    if scaling.vm_reset_after_seconds < scaling.vm_heartbeat_stale_seconds:
        yield Fault(
            "/spec/scaling/vmResetAfterSeconds",
            f"must be at least vmHeartbeatStaleSeconds ({scaling.vm_heartbeat_stale_seconds:g})",
        )
    if scaling.vm_delete_after_seconds < scaling.vm_reset_after_seconds:
        yield Fault(
            "/spec/scaling/vmDeleteAfterSeconds",
            f"must be at least vmResetAfterSeconds ({scaling.vm_reset_after_seconds:g})",
        )
    if retry.backoff_max_seconds < retry.backoff_seconds:
        yield Fault("/spec/retry/backoffMaxSeconds", f"must be at least backoffSeconds ({retry.backoff_seconds:g})")


def _exit_codes_are_apart(app: App) -> Iterator[Fault]:
    for code in sorted(set(app.retry.transient_exit_codes) & set(app.retry.fatal_exit_codes)):
        yield Fault("/spec/retry/fatalExitCodes", f"exit code {code} is transient too; it can be only one of the two")


def _candidates_are_told_apart(app: App) -> Iterator[Fault]:
    taken: set[str] = set()
    for index, candidate in enumerate(app.placement.candidates):
        if candidate.name in taken:
            yield Fault(
                f"/spec/placement/candidates/{index}/name", f"an earlier candidate is called '{candidate.name}' too"
            )
        if candidate.name:
            taken.add(candidate.name)


_RULES: Final[tuple[Callable[[App], Iterator[Fault]], ...]] = (
    _name_is_free,
    _has_a_program,
    _server_belongs_to_a_sidecar,
    _sources_are_single,
    _mounts_are_apart,
    _prefix_is_not_the_control_store,
    _bounds_are_in_order,
    _exit_codes_are_apart,
    _candidates_are_told_apart,
)
