from __future__ import annotations

import msgspec
import pytest

from penstock.errors import Fault
from penstock.model.app import (
    App,
    Batch,
    Deadlines,
    EmptyDir,
    EnvFrom,
    Mount,
    Queue,
    Results,
    Retry,
    Scaling,
    Server,
    Storage,
    Worker,
    WorkerType,
    decode,
    encode,
)
from penstock.model.app_changes import FieldChange, diff
from penstock.model.app_rules import RESERVED_NAMES, contradictions, faults
from penstock.model.candidate import (
    Cloud,
    KubernetesCandidate,
    Placement,
    PoolCandidate,
    Pricing,
    VmCandidate,
    VmSpec,
)

MIB = 1024 * 1024
DIGITS = App(name="digits", handler="digits:Digits")


def test_the_defaults_are_those_of_the_reference():
    app = App(name="x")
    worker, scaling = app.worker, app.scaling
    assert (app.desired_state, app.max_body_bytes, app.batch, app.tenants) == ("Ready", 10 * MIB, None, ())
    assert (worker.type, worker.instances, worker.batch_size, worker.batch_wait_ms) == ("handler", 1, 1, 0)
    assert (worker.idle_exit_seconds, worker.max_runs, worker.max_lifetime_seconds) == (60, 0, 0)
    assert worker.fork_server
    assert worker.mix_tenants
    assert worker.server == Server(
        port=8080, request_path="/", method="POST", content_type="application/octet-stream",
        health_path="/healthz", ready_timeout_s=600.0, concurrency=0,
    )  # fmt: skip
    assert scaling == Scaling(
        messages_per_instance=10, min_instances=0, max_instances=0, max_scale_up_per_cycle=3, scale_up_cooldown_seconds=60.0,
        scale_down_stabilization_seconds=120.0, startup_grace_seconds=300.0, put_concurrency=8, infer_sla_minutes=30.0,
        rate_per_instance_per_min=1000.0, vm_heartbeat_stale_seconds=180.0, vm_reset_after_seconds=600.0,
        vm_delete_after_seconds=1200.0, wedged_restart_max=3,
    )  # fmt: skip
    assert Batch() == Batch(
        batch_sla_hours=24.0, output_partition_size=1000, max_vms=4, upload_ttl_hours=24.0, starve_grace_min=7.0,
        segment_records=50_000, max_record_bytes=10 * MIB,
    )  # fmt: skip
    assert app.retry == Retry(max_attempts=3, backoff_seconds=1.0, backoff_max_seconds=60.0)
    assert app.deadlines == Deadlines(queue_ttl_seconds=86400.0, run_deadline_seconds=3600.0, lease_seconds=30.0)
    assert app.results == Results(ttl_hours=168.0, cache=True, max_result_bytes=256 * MIB)
    assert app.placement == Placement(policy="order", candidates=())


def test_queue_and_prefix_are_named_after_the_app_unless_the_spec_says_otherwise():
    assert (DIGITS.queue_ref, DIGITS.storage_prefix) == ("digits", "AppData/digits")
    other = App(name="digits", queue=Queue(ref="q"), storage=Storage(prefix="a/b"))
    assert (other.queue_ref, other.storage_prefix) == ("q", "a/b")


def test_an_app_survives_the_way_to_a_worker():
    app = App(
        name="x",
        placement=Placement(
            candidates=(
                KubernetesCandidate(attributes={"cost_usd": 0.8}),
                VmCandidate(provider=Cloud.EC2, spec=VmSpec(machine_type="g5", regions=("eu",), pricing=Pricing.SPOT)),
                PoolCandidate(provider="local"),
            )
        ),
    )
    assert decode(encode(app)) == app
    assert [candidate.type for candidate in decode(encode(app)).placement.candidates] == ["kubernetes", "vm", "pool"]
    assert encode(DIGITS) == b'{"handler":"digits:Digits","name":"digits"}'


def test_an_unknown_field_is_refused_on_the_way_too():
    with pytest.raises(msgspec.ValidationError, match="concurrency"):
        decode(b'{"name":"x","worker":{"concurrency":2}}')


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_the_name_of_a_route_is_refused(name: str):
    assert [fault.pointer for fault in faults(App(name=name, image="x"))] == ["/metadata/name"]


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 41, "a\n", "é"])
def test_a_name_that_is_no_label_is_refused(name: str):
    assert [fault.pointer for fault in faults(App(name=name, image="x"))] == ["/metadata/name"]


@pytest.mark.parametrize("name", ["a", "7", "a-b", "a" * 40])
def test_a_label_is_a_good_name(name: str):
    assert faults(App(name=name, image="x")) == []


@pytest.mark.parametrize(
    ("app", "pointer"),
    [
        (App(name="x"), "/spec"),
        (App(name="x", worker=Worker(type=WorkerType.JOB)), "/spec"),
        (App(name="x", worker=Worker(type=WorkerType.SIDECAR), handler="a:B"), "/spec"),
        (App(name="x", image="i", worker=Worker(server=Server(port=1))), "/spec/worker/server"),
        (App(name="x", image="i", worker=Worker(instances=0)), "/spec/worker/instances"),
        (App(name="x", image="i", worker=Worker(batch_size=0)), "/spec/worker/batchSize"),
        (App(name="x", image="i", worker=Worker(idle_exit_seconds=0.0)), "/spec/worker/idleExitSeconds"),
        (App(name="x", image="i", deadlines=Deadlines(lease_seconds=0.05)), "/spec/deadlines/leaseSeconds"),
        (App(name="x", image="i", deadlines=Deadlines(lease_seconds=float("nan"))), "/spec/deadlines/leaseSeconds"),
        (App(name="x", image="i", retry=Retry(transient_exit_codes=(0,))), "/spec/retry/transientExitCodes/0"),
        (
            App(name="x", image="i", retry=Retry(transient_exit_codes=(3, 4), fatal_exit_codes=(4,))),
            "/spec/retry/fatalExitCodes",
        ),
        (App(name="x", image="i", retry=Retry(backoff_seconds=90.0)), "/spec/retry/backoffMaxSeconds"),
        (App(name="x", image="i", scaling=Scaling(min_instances=3, max_instances=2)), "/spec/scaling/maxInstances"),
        (App(name="x", image="i", scaling=Scaling(vm_reset_after_seconds=100.0)), "/spec/scaling/vmResetAfterSeconds"),
        (
            App(name="x", image="i", scaling=Scaling(vm_delete_after_seconds=500.0)),
            "/spec/scaling/vmDeleteAfterSeconds",
        ),
        (App(name="x", image="i", env={"1A": ""}), "/spec/env/1A"),
        (App(name="x", image="i", env_from=(EnvFrom(),)), "/spec/envFrom/0"),
        (App(name="x", image="i", env_from=(EnvFrom(secret="a", config_map="b"),)), "/spec/envFrom/0"),
        (App(name="x", image="i", mounts=(Mount(path="/a"),)), "/spec/mounts/0"),
        (App(name="x", image="i", mounts=(Mount(path="a", secret="s"),)), "/spec/mounts/0/path"),
        (
            App(name="x", image="i", mounts=(Mount(path="/a", secret="s"), Mount(path="/a/", empty_dir=EmptyDir()))),
            "/spec/mounts/1/path",
        ),
        (App(name="x", image="i", storage=Storage(prefix="../a")), "/spec/storage/prefix"),
        (App(name="x", image="i", storage=Storage(prefix="/a")), "/spec/storage/prefix"),
        (App(name="x", image="i", storage=Storage(prefix="penstock/apps")), "/spec/storage/prefix"),
        (App(name="x", handler="digits"), "/spec/handler"),
        (App(name="x", handler="digits.txt:Digits:"), "/spec/handler"),
        (App(name="x", image="a b"), "/spec/image"),
        (App(name="x", image="i", labels={"a": "-"}), "/metadata/labels/a"),
        (
            App(name="x", image="i", placement=Placement(candidates=(PoolCandidate(provider=""),))),
            "/spec/placement/candidates/0/provider",
        ),
        (
            App(name="x", image="i", placement=Placement(candidates=(KubernetesCandidate(name="a"),) * 2)),
            "/spec/placement/candidates/1/name",
        ),
    ],
)
def test_a_wrong_field_is_named(app: App, pointer: str):
    assert [fault.pointer for fault in faults(app)] == [pointer]


@pytest.mark.parametrize(
    "app",
    [
        App(name="x", handler="a.b:C"),
        App(name="x", handler="../a b/c.py:D"),
        App(name="x", worker=Worker(type=WorkerType.JOB), command=("true",)),
        App(name="x", worker=Worker(type=WorkerType.JOB), image="i"),
        App(name="x", worker=Worker(type=WorkerType.SIDECAR, server=Server(port=1)), command=("serve",)),
        App(name="x", image="i", scaling=Scaling(min_instances=3)),
        App(name="x", image="i", mounts=(Mount(path="/a", empty_dir=EmptyDir()), Mount(path="/b", pvc="p"))),
    ],
)
def test_a_right_app_has_no_fault(app: App):
    assert faults(app) == []


def test_contradictions_are_all_told():
    app = App(name="runs", retry=Retry(backoff_seconds=61.0))
    assert [fault.pointer for fault in contradictions(app)] == [
        "/metadata/name",
        "/spec",
        "/spec/retry/backoffMaxSeconds",
    ]


def test_a_fault_says_what_to_do():
    assert faults(App(name="x", image="i", scaling=Scaling(min_instances=3, max_instances=2))) == [
        Fault("/spec/scaling/maxInstances", "must be at least minInstances (3), or 0")
    ]


def test_a_diff_names_each_field_with_both_values():
    old = App(name="x", image="i:1", env={"A": "1", "B": "2"}, labels={"a/b": "c"}, args=("1", "2"), tenants=("t",))
    new = App(
        name="x", image="i:2", env={"A": "1", "C": "3"}, args=("1", "3"), scaling=Scaling(min_instances=2), batch=Batch()
    )  # fmt: skip
    assert {change.pointer: (change.before, change.after) for change in diff(old, new)} == {
        "/spec/image": ("i:1", "i:2"),
        "/spec/args/1": ("2", "3"),
        "/spec/scaling/minInstances": (0, 2),
        "/spec/batch": (None, {}),
        "/spec/tenants": (("t",), ()),
        "/metadata/labels/a~1b": ("c", None),
        "/spec/env/B": ("2", None),
        "/spec/env/C": (None, "3"),
    }


def test_a_candidate_of_another_type_differs_as_a_whole():
    old = App(name="x", placement=Placement(candidates=(KubernetesCandidate(),)))
    new = App(name="x", placement=Placement(candidates=(PoolCandidate(provider="p"),)))
    (change,) = diff(old, new)
    assert change == FieldChange(
        "/spec/placement/candidates/0", {"type": "kubernetes"}, {"type": "pool", "provider": "p"}
    )
