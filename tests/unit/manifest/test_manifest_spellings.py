from __future__ import annotations

import time

import pytest

from penstock.manifest import emit, parse, resolve, schema
from penstock.model.app import App, Batch, Deadlines, EnvFrom, Resources, Results, Scaling, Worker, WorkerType
from penstock.model.candidate import (
    Candidate,
    Cloud,
    KubernetesCandidate,
    KubernetesSpec,
    Overrides,
    Placement,
    PoolCandidate,
    Pricing,
    Toleration,
    VmCandidate,
    VmSpec,
)

ENVELOPED = """\
apiVersion: penstock/v1
kind: App
metadata: { name: segmentation, labels: { team: vision } }
spec:
  handler: models/seg.py:Segment
  env: { MODEL: base }
  envFrom: [{ secret: hub }]
  resources: { gpu: 1, gpuType: L4, memoryGb: 16, custom: { example.com/fpga: 1 } }
  worker: { batchSize: 8, idleExitSeconds: 0.5 }
  scaling: { messagesPerInstance: 4, maxInstances: 9 }
  batch: {}
  deadlines: { leaseSeconds: 2 }
  results: { cache: false }
  placement:
    policy: require:min_memory_gb=24,min-cost
    candidates:
      - type: kubernetes
        name: l4-spot
        attributes: { cost_usd: 0.80, memory_gb: 24 }
        strings: { tier: spot }
        spec:
          pricing: spot
          nodeSelectors: [{ cloud.google.com/gke-spot: "true" }]
          tolerations: [{ key: nvidia.com/gpu, operator: Exists, effect: NoSchedule }]
          affinity: { nodeAffinity: { any: [1, null] } }
      - type: pool
        provider: local
        overrides: { instances: 2 }
"""

SEGMENTATION = App(
    name="segmentation",
    labels={"team": "vision"},
    handler="models/seg.py:Segment",
    env={"MODEL": "base"},
    env_from=(EnvFrom(secret="hub"),),
    resources=Resources(gpu=1, gpu_type="L4", memory_gb=16.0, custom={"example.com/fpga": 1.0}),
    worker=Worker(batch_size=8, idle_exit_seconds=0.5),
    scaling=Scaling(messages_per_instance=4, max_instances=9),
    batch=Batch(),
    deadlines=Deadlines(lease_seconds=2.0),
    results=Results(cache=False),
    placement=Placement(
        policy="require:min_memory_gb=24,min-cost",
        candidates=(
            KubernetesCandidate(
                name="l4-spot",
                attributes={"cost_usd": 0.8, "memory_gb": 24.0},
                strings={"tier": "spot"},
                spec=KubernetesSpec(
                    pricing=Pricing.SPOT,
                    node_selectors=({"cloud.google.com/gke-spot": "true"},),
                    tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
                    affinity={"nodeAffinity": {"any": [1, None]}},
                ),
            ),
            PoolCandidate(provider="local", overrides=Overrides(instances=2)),
        ),
    ),
)


def flat(enveloped: str) -> str:
    """The same document with the keys of metadata and spec at the top."""
    _, _, rest = enveloped.partition("spec:\n")
    return "name: segmentation\nlabels: { team: vision }\n" + "\n".join(line[2:] for line in rest.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        ENVELOPED,
        ENVELOPED.replace("penstock/v1", "sluice/v1"),
        flat(ENVELOPED),
        flat(ENVELOPED).replace("messagesPerInstance", "messagesPerWorker").replace("maxInstances", "maxWorkers"),
    ],
    ids=["enveloped", "older name", "flat", "aliases"],
)
def test_every_spelling_gives_the_same_app(text: str):
    assert parse(text) == [SEGMENTATION]


def candidates(placement: str) -> tuple[Candidate, ...]:
    (app,) = parse(f"name: x\nimage: i\nplacement: {placement}")
    return app.placement.candidates


def machine(region: str, pricing: Pricing) -> VmCandidate:
    spec = VmSpec(machine_type="g2-standard-8", regions=(region,), pricing=pricing, linger_seconds=5.0)
    return VmCandidate(provider=Cloud.GCE, spec=spec)


def cluster(pricing: Pricing) -> KubernetesCandidate:
    return KubernetesCandidate(spec=KubernetesSpec(pricing=pricing))


VM = "vm: { provider: gce, machineType: g2-standard-8, regions: [us-central1, europe-west3], lingerSeconds: 5 }"
SPOT, ON_DEMAND = Pricing.SPOT, Pricing.ON_DEMAND


def test_a_short_placement_becomes_candidates_price_first():
    assert candidates(f"{{ mode: both, pricing: [spot, on-demand], {VM} }}") == (
        cluster(SPOT), machine("us-central1", SPOT), machine("europe-west3", SPOT),
        cluster(ON_DEMAND), machine("us-central1", ON_DEMAND), machine("europe-west3", ON_DEMAND),
    )  # fmt: skip
    assert candidates(f"{{ mode: vm, pricing: spot, {VM} }}") == (
        machine("us-central1", SPOT), machine("europe-west3", SPOT),
    )  # fmt: skip
    assert candidates("{ mode: kubernetes, pricing: [on-demand, spot] }") == (cluster(ON_DEMAND), cluster(SPOT))
    assert candidates("{ mode: kubernetes }") == (cluster(ON_DEMAND),)


def test_a_placement_may_be_a_list():
    assert candidates("[{ type: pool, provider: a }, { type: pool, provider: b }]") == (
        PoolCandidate(provider="a"),
        PoolCandidate(provider="b"),
    )


def test_several_documents_keep_their_order_and_empty_ones_count_for_nothing():
    text = "---\nname: b\nimage: i\n---\n# nothing\n---\nname: a\nimage: i\n---\n"
    assert [app.name for app in parse(text)] == ["b", "a"]
    assert parse("") == parse("# nothing\n") == parse("---\n---\n") == []


def test_anchors_and_merges_are_written_out():
    pools = candidates("""
  - &a { type: pool, provider: a, attributes: &n { cost_usd: 1 } }
  - { <<: *a, provider: b }
  - { type: pool, provider: c, attributes: *n }""")
    assert [(one.provider, one.attributes) for one in pools] == [(name, {"cost_usd": 1.0}) for name in "abc"]


def test_a_quoted_merge_sign_is_a_key():
    (app,) = parse('name: x\nimage: i\nannotations: { "<<": a }')
    assert app.annotations == {"<<": "a"}


@pytest.mark.parametrize("text", ["yes", "on", "2020-01-01", "12:30:00", "'1'", '"true"', "1_000", "!!str 5", "0b1"])
def test_text_that_older_yaml_reads_otherwise_is_text(text: str):
    (app,) = parse(f"name: x\nimage: i\nenv: {{ A: {text} }}")
    assert app.env["A"] == text.strip("'\"").removeprefix("!!str ")


@pytest.mark.parametrize(("text", "number"), [("0x10", 16), ("0o10", 8), ("+7", 7), ("007", 7)])
def test_whole_numbers_have_the_forms_of_yaml(text: str, number: int):
    (app,) = parse(f"name: x\nimage: i\nmaxBodyBytes: {text}")
    assert app.max_body_bytes == number


def test_an_app_is_written_in_the_first_spelling():
    text = emit(SEGMENTATION)
    assert parse(text) == [SEGMENTATION]
    assert (
        text
        == """\
apiVersion: penstock/v1
kind: App
metadata:
  name: segmentation
  labels:
    team: vision
spec:
  handler: models/seg.py:Segment
  env:
    MODEL: base
  envFrom:
    - secret: hub
  resources:
    gpu: 1
    gpuType: L4
    memoryGb: 16
    custom:
      example.com/fpga: 1
  worker:
    batchSize: 8
    idleExitSeconds: 0.5
  scaling:
    messagesPerInstance: 4
    maxInstances: 9
  batch: {}
  deadlines:
    leaseSeconds: 2
  results:
    cache: false
  placement:
    policy: "require:min_memory_gb=24,min-cost"
    candidates:
      - type: kubernetes
        name: l4-spot
        attributes:
          cost_usd: 0.8
          memory_gb: 24
        strings:
          tier: spot
        spec:
          nodeSelectors:
            - cloud.google.com/gke-spot: "true"
          tolerations:
            - key: nvidia.com/gpu
              operator: Exists
              effect: NoSchedule
          affinity:
            nodeAffinity:
              any:
                - 1
                - null
          pricing: spot
      - type: pool
        provider: local
        overrides:
          instances: 2
"""
    )


@pytest.mark.parametrize(
    ("handler", "resolved"),
    [
        ("seg.py:Seg", "/apps/vision/seg.py:Seg"),
        ("./models/seg.py:Seg", "/apps/vision/models/seg.py:Seg"),
        ("/abs/seg.py:Seg", "/abs/seg.py:Seg"),
        ("models.seg:Seg", "models.seg:Seg"),
        ("", ""),
    ],
)
def test_a_handler_file_is_found_beside_its_yaml(handler: str, resolved: str):
    assert resolve(App(name="x", image="i", handler=handler), "/apps/vision").handler == resolved


def test_the_schema_describes_every_field():
    body = schema()
    structs = {kind: definition for kind, definition in body["$defs"].items() if definition.get("type") == "object"}
    assert len(structs) >= 20
    for kind, definition in structs.items():
        assert definition["additionalProperties"] is False, kind
        for key, field in definition["properties"].items():
            known = kind in {"Manifest", "Toleration"} or key == "type"
            assert known or field.get("description"), f"{kind}.{key}"


def test_reading_a_spec_takes_milliseconds():
    text = "name: x\nworker: {type: job}\ncommand: [python, -c, pass]\nscaling: {maxInstances: 4}\n"
    parse(text)
    started = time.process_time()
    for _ in range(100):
        (app,) = parse(text)
    assert app.worker.type is WorkerType.JOB
    assert (time.process_time() - started) / 100 < 0.02
