"""An app: the versioned spec of a model or program, with every default declared beside its field."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

from .candidate import Placement
from .section import END, AtLeastZero, Count, KeyName, LabelKey, LabelValue, Name, NonEmpty, Positive, Section, Word

__all__ = [
    "Annotations",
    "App",
    "AppName",
    "Batch",
    "Deadlines",
    "DesiredState",
    "EmptyDir",
    "EnvFrom",
    "Labels",
    "Mount",
    "Queue",
    "Resources",
    "Results",
    "Retry",
    "Scaling",
    "Server",
    "Spec",
    "Storage",
    "Worker",
    "WorkerType",
    "decode",
    "encode",
    "pointer",
]

IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"  # `\w` means another set of letters to JSON Schema
MIB: Final = 1024 * 1024


class DesiredState(StrEnum):
    """What an operator wants of an app."""

    READY = "Ready"  # accept runs and execute them
    PAUSED = "Paused"  # accept runs, lease none
    DRAINING = "Draining"  # accept none, finish what is queued


class WorkerType(StrEnum):
    """The archetype of a worker."""

    HANDLER = "handler"  # processes that load the user's Handler class
    SIDECAR = "sidecar"  # an unmodified HTTP model server, and an adapter beside it
    JOB = "job"  # one process, container or Kubernetes Job per run


class EnvFrom(Section, frozen=True, kw_only=True):
    """A Secret or a ConfigMap whose keys become environment variables; exactly one is named."""

    secret: Annotated[NonEmpty, Meta(description="The name of a Secret.")] = ""
    config_map: Annotated[NonEmpty, Meta(description="The name of a ConfigMap.")] = ""


class EmptyDir(Section, frozen=True, kw_only=True):
    """A folder that lives as long as its worker."""

    medium: Annotated[Literal["", "Memory"], Meta(description="Memory keeps it in RAM.")] = ""
    size_limit: Annotated[str, Meta(description="A Kubernetes quantity, as 8Gi.")] = ""


class Mount(Section, frozen=True, kw_only=True):
    """Something that a worker finds at a path; exactly one source is named."""

    path: Annotated[
        str,
        Meta(pattern=rf"^/[^\n\x00]*{END}", extra={"expected": "an absolute path"}, description="Where it is mounted."),
    ]
    secret: Annotated[NonEmpty, Meta(description="The name of a Secret.")] = ""
    config_map: Annotated[NonEmpty, Meta(description="The name of a ConfigMap.")] = ""
    pvc: Annotated[NonEmpty, Meta(description="The name of a PersistentVolumeClaim.")] = ""
    empty_dir: Annotated[EmptyDir | None, Meta(description="A scratch folder; {} for a plain one.")] = None


class Queue(Section, frozen=True, kw_only=True):
    """Which queue carries the app's hints."""

    ref: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=rf"^[A-Za-z0-9][A-Za-z0-9_-]*{END}",
            extra={"expected": "at most 64 letters, digits, '-' and '_'"},
            description="The queue's name; empty = the app's name.",
        ),
    ] = ""


class Storage(Section, frozen=True, kw_only=True):
    """Where the app's bodies and results lie in the data store."""

    prefix: Annotated[
        str,
        Meta(
            max_length=256,
            # No segment begins with a dot, so a prefix never climbs out of the store.
            pattern=rf"^[A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*{END}",
            extra={"expected": "segments of letters, digits, '.', '_', '=' and '-' with a '/' between them"},
            description="The prefix of every object key; empty = AppData/{name}.",
        ),
    ] = ""


class Resources(Section, frozen=True, kw_only=True):
    """What one worker needs."""

    gpu: Annotated[Count, Meta(description="Whole GPUs.")] = 0
    gpu_type: Annotated[str, Meta(description="The GPU's model, as L4 or A100; empty = any.")] = ""
    gpu_memory_gb: Annotated[AtLeastZero, Meta(description="Memory of each GPU in GB, at least.")] = 0.0
    cpu: Annotated[AtLeastZero, Meta(description="CPU cores; fractions are allowed.")] = 0.0
    memory_gb: Annotated[AtLeastZero, Meta(description="Main memory in GB.")] = 0.0
    custom: Annotated[
        dict[LabelKey, AtLeastZero], Meta(description="Quantities of other resources, by their Kubernetes name.")
    ] = field(default_factory=dict)


class Server(Section, frozen=True, kw_only=True):
    """How the adapter of a sidecar speaks with its model server."""

    port: Annotated[int, Meta(ge=1, le=65535, description="The port that the server listens on.")] = 8080
    request_path: Annotated[
        str,
        Meta(pattern="^/", extra={"expected": "a path that begins with /"}, description="Where bodies are sent."),
    ] = "/"
    method: Annotated[Literal["POST", "PUT"], Meta(description="The HTTP method of a request.")] = "POST"
    content_type: Annotated[NonEmpty, Meta(description="The content type of a request.")] = "application/octet-stream"
    health_path: Annotated[
        str,
        Meta(pattern="^/", extra={"expected": "a path that begins with /"}, description="Answers 2xx once ready."),
    ] = "/healthz"
    ready_timeout_s: Annotated[Positive, Meta(description="Seconds until the server must be ready.")] = 600.0
    concurrency: Annotated[Count, Meta(description="Requests kept in flight; 0 = worker.instances.")] = 0


class Worker(Section, frozen=True, kw_only=True):
    """What a worker is and how it runs."""

    type: Annotated[WorkerType, Meta(description="The archetype.")] = WorkerType.HANDLER
    instances: Annotated[
        int, Meta(ge=1, description="Replicas packed on the GPUs of one worker, started one after the other.")
    ] = 1
    batch_size: Annotated[int, Meta(ge=1, description="Most runs per call of predict.")] = 1
    batch_wait_ms: Annotated[
        AtLeastZero, Meta(description="Milliseconds that a micro-batch waits to be filled, at most.")
    ] = 0.0
    idle_exit_seconds: Annotated[
        Positive, Meta(description="An empty queue for that long and the worker exits: that is scale to zero.")
    ] = 60.0
    max_runs: Annotated[Count, Meta(description="Runs after which a worker is recycled; 0 = never.")] = 0
    max_lifetime_seconds: Annotated[
        AtLeastZero, Meta(description="Seconds after which a worker is recycled; 0 = never.")
    ] = 0.0
    server: Annotated[Server, Meta(description="The model server of a sidecar.")] = Server()
    fork_server: Annotated[
        bool, Meta(description="Fork local workers from a warm process that has imported the handler.")
    ] = True
    mix_tenants: Annotated[bool, Meta(description="Whether one micro-batch may hold runs of several tenants.")] = True


class Scaling(Section, frozen=True, kw_only=True):
    """How many workers the backlog calls for, and how fast they come and go."""

    messages_per_instance: Annotated[int, Meta(ge=1, description="The backlog that one worker absorbs.")] = 10
    min_instances: Annotated[Count, Meta(description="Workers kept even without work.")] = 0
    max_instances: Annotated[Count, Meta(description="Most workers at once; 0 = unbounded.")] = 0
    max_scale_up_per_cycle: Annotated[int, Meta(ge=1, description="Most new workers per cycle.")] = 3
    scale_up_cooldown_seconds: Annotated[AtLeastZero, Meta(description="Least seconds between scale-ups.")] = 60.0
    scale_down_stabilization_seconds: Annotated[
        AtLeastZero, Meta(description="Seconds for which the recent peak of demand is held.")
    ] = 120.0
    startup_grace_seconds: Annotated[
        AtLeastZero, Meta(description="Seconds that a worker may take to start before it counts as stuck.")
    ] = 300.0
    put_concurrency: Annotated[int, Meta(ge=1, description="Model calls in flight per worker, over both lanes.")] = 8
    infer_sla_minutes: Annotated[Positive, Meta(description="Minutes in which an online backlog is worked off.")] = 30.0
    rate_per_instance_per_min: Annotated[
        Positive, Meta(description="Items per worker and minute, until a rate has been measured.")
    ] = 1000.0
    vm_heartbeat_stale_seconds: Annotated[
        Positive, Meta(description="Seconds of silence after which a VM is excluded and replaced.")
    ] = 180.0
    vm_reset_after_seconds: Annotated[
        Positive, Meta(description="Seconds of silence after which a VM is reset, once.")
    ] = 600.0
    vm_delete_after_seconds: Annotated[
        Positive, Meta(description="Seconds of silence after which a VM is deleted.")
    ] = 1200.0
    wedged_restart_max: Annotated[Count, Meta(description="Restarts after which a VM counts as wedged.")] = 3


class Batch(Section, frozen=True, kw_only=True):
    """The batch lane; an app without this section has none."""

    batch_sla_hours: Annotated[Positive, Meta(description="Hours in which a batch is to be finished.")] = 24.0
    output_partition_size: Annotated[int, Meta(ge=1, description="Records per output file.")] = 1000
    max_vms: Annotated[Count, Meta(description="Most VMs bought for the batch lane.")] = 4
    upload_ttl_hours: Annotated[Positive, Meta(description="Hours after which an unsubmitted upload is removed.")] = (
        24.0
    )
    starve_grace_min: Annotated[
        AtLeastZero, Meta(description="Minutes without progress after which the batch lane gets a slot of its own.")
    ] = 7.0
    segment_records: Annotated[int, Meta(ge=1, description="Records that one run works through.")] = 50_000
    max_record_bytes: Annotated[int, Meta(ge=1, description="The longest record in bytes.")] = 10 * MIB


ExitCode = Annotated[int, Meta(ge=1, le=255)]


class Retry(Section, frozen=True, kw_only=True):
    """How often and how fast a failed run is tried again."""

    max_attempts: Annotated[int, Meta(ge=1, description="Attempts in all.")] = 3
    backoff_seconds: Annotated[AtLeastZero, Meta(description="Seconds before the second attempt; then doubled.")] = 1.0
    backoff_max_seconds: Annotated[AtLeastZero, Meta(description="Longest wait in seconds between attempts.")] = 60.0
    transient_exit_codes: Annotated[
        tuple[ExitCode, ...], Meta(description="Exit codes of a job that are worth another attempt.")
    ] = ()
    fatal_exit_codes: Annotated[
        tuple[ExitCode, ...], Meta(description="Exit codes of a job that fail its run at once.")
    ] = ()


class Deadlines(Section, frozen=True, kw_only=True):
    """How long a run may wait, execute, and stay silent."""

    queue_ttl_seconds: Annotated[Positive, Meta(description="Seconds that a run may spend queued, in all.")] = 86400.0
    run_deadline_seconds: Annotated[Positive, Meta(description="Seconds that one attempt may take.")] = 3600.0
    lease_seconds: Annotated[
        float, Meta(ge=0.1, description="Seconds that an attempt holds its run without a heartbeat.")
    ] = 30.0


class Results(Section, frozen=True, kw_only=True):
    """How long results are kept, and whether an equal request is answered by an earlier one's."""

    ttl_hours: Annotated[Positive, Meta(description="Hours that results are kept.")] = 168.0
    cache: Annotated[bool, Meta(description="Answer an equal request by the stored result.")] = True
    max_result_bytes: Annotated[int, Meta(ge=1, description="The largest result in bytes.")] = 256 * MIB


class Spec(Section, frozen=True, kw_only=True):
    """What an app runs, on what, and under which terms."""

    image: Annotated[Word, Meta(description="The OCI image of the worker, or of a sidecar's model server.")] = ""
    handler: Annotated[
        str,
        Meta(
            pattern=rf"^({IDENTIFIER}(\.{IDENTIFIER})*|[^\n\x00]+\.py):{IDENTIFIER}{END}",
            extra={"expected": "'module:Class' or 'path/to/file.py:Class'"},
            description="The Handler: module:Class, or path/to/file.py:Class relative to this file.",
        ),
    ] = ""
    command: Annotated[tuple[str, ...], Meta(description="The program of a job or of a sidecar's server.")] = ()
    args: Annotated[
        tuple[str, ...],
        Meta(description="Its arguments; {payload_url}, {run_id} and {result_url} are filled in for a job."),
    ] = ()
    env: Annotated[dict[KeyName, str], Meta(description="Environment variables.")] = field(default_factory=dict)
    env_from: Annotated[
        tuple[EnvFrom, ...], Meta(description="Secrets and ConfigMaps that become environment variables.")
    ] = ()
    mounts: Annotated[tuple[Mount, ...], Meta(description="What a worker finds in its file system.")] = ()
    desired_state: Annotated[DesiredState, Meta(description="What is wanted of the app.")] = DesiredState.READY
    queue: Annotated[Queue, Meta(description="Which queue carries the app's hints.")] = Queue()
    storage: Annotated[Storage, Meta(description="Where bodies and results lie.")] = Storage()
    resources: Annotated[Resources, Meta(description="What one worker needs.")] = Resources()
    worker: Annotated[Worker, Meta(description="What a worker is and how it runs.")] = Worker()
    scaling: Annotated[Scaling, Meta(description="How many workers there are.")] = Scaling()
    batch: Annotated[Batch | None, Meta(description="The batch lane; left out = off, {} = on with defaults.")] = None
    retry: Annotated[Retry, Meta(description="How a failed run is tried again.")] = Retry()
    deadlines: Annotated[Deadlines, Meta(description="How long a run may wait and take.")] = Deadlines()
    results: Annotated[Results, Meta(description="How long results are kept.")] = Results()
    max_body_bytes: Annotated[int, Meta(ge=1, description="The largest request body in bytes.")] = 10 * MIB
    placement: Annotated[Placement, Meta(description="Where workers may start.")] = Placement()
    tenants: Annotated[tuple[NonEmpty, ...], Meta(description="Tenants that may use the app; empty = all.")] = ()


AppName = Annotated[Name, Meta(description="The app's name, unique in the deployment.")]
Labels = Annotated[dict[LabelKey, LabelValue], Meta(description="Labels, passed on to everything made for the app.")]
Annotations = Annotated[dict[str, str], Meta(description="Notes of tools and people, kept and never read.")]


class App(Spec, frozen=True, kw_only=True):
    """The versioned spec of a model or program, under its name."""

    name: AppName
    labels: Labels = field(default_factory=dict)
    annotations: Annotations = field(default_factory=dict)

    @property
    def queue_ref(self) -> str:
        """The name of the app's queue: `queue.ref`, else the app's own name."""
        return self.queue.ref or self.name

    @property
    def storage_prefix(self) -> str:
        """The prefix of the app's object keys: `storage.prefix`, else `AppData/{name}`."""
        return self.storage.prefix or f"AppData/{self.name}"


_METADATA: Final = frozenset({"name", "labels", "annotations"})


def pointer(field: str) -> str:
    """Give the JSON Pointer into the normalised document of the field at a pointer into the App: /image, /spec/image."""
    if not field:
        return field
    return f"/metadata{field}" if field.split("/", 2)[1] in _METADATA else f"/spec{field}"


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(App)


def encode(app: App) -> bytes:
    """Give the app as JSON, as it travels to a worker; defaults are left out."""
    return _ENCODER.encode(app)


def decode(data: bytes) -> App:
    """Give the app that `encode` made into JSON.

    Raises:
        msgspec.ValidationError: the JSON is no app.
    """
    return _DECODER.decode(data)
