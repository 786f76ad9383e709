from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import InvalidSpec, SpecFault
from penstock.manifest import parse
from penstock.manifest.reader import MAX_ALIASES, MAX_NODES, MAX_TEXT


def refused(text: str) -> tuple[SpecFault, ...]:
    with pytest.raises(InvalidSpec) as caught:
        parse(text, source="app.yaml")
    return caught.value.faults


def told(text: str) -> list[str]:
    return [str(fault) for fault in refused(text)]


def test_every_fault_is_told_at_its_line_and_column():
    assert told("""\
nmae: x
imagee: 3
image: 5
wroker: {}
batchSize: 3
batch:
scaling:
  messagesPerWorker: abc
  minWorkers: -1
  maxInstance: 3
  scaleUpCooldownSeconds: "60"
placement:
  - type: vn
  - type: vm
    provider: aws
    spec: {machineType: x, pricing: spto}
  - provider: x
  - type: kubernetes
    spec: {tolerations: [{operator: exists}]}
worker: {type: side, idleExitSeconds: 0, mixTenants: 1}
deadlines: {leaseSeconds: .inf}
env: {1: b, "a b": c, D: true}
args: x
results: []
""") == [
        "app.yaml:1:1: unknown key 'nmae'; did you mean 'name'?",
        "app.yaml:1:1: the key 'name' is missing",
        "app.yaml:2:1: unknown key 'imagee'; did you mean 'image'?",
        "app.yaml:3:1: expected text, got the number 5; put it in quotes",
        "app.yaml:4:1: unknown key 'wroker'; did you mean 'worker'?",
        "app.yaml:5:1: unknown key 'batchSize'; did you mean 'worker.batchSize'?",
        "app.yaml:6:1: expected a mapping, got nothing; write {} for the defaults, or leave the key out",
        "app.yaml:8:3: expected a whole number, got the text 'abc'",
        "app.yaml:9:3: must be at least 0, got -1",
        "app.yaml:10:3: unknown key 'maxInstance'; did you mean 'maxInstances'?",
        "app.yaml:11:3: expected a number, got the text '60'",
        "app.yaml:13:5: expected one of kubernetes, vm, pool, got the text 'vn'",
        "app.yaml:15:5: expected one of gce, ec2, got the text 'aws'",
        "app.yaml:16:5: the key 'regions' is missing",
        "app.yaml:16:28: expected one of spot, on-demand, got the text 'spto'; did you mean 'spot'?",
        "app.yaml:17:5: the key 'type' is missing: one of kubernetes, vm, pool",
        "app.yaml:19:27: expected one of Equal, Exists, got the text 'exists'; did you mean 'Exists'?",
        "app.yaml:20:10: expected one of handler, sidecar, job, got the text 'side'; did you mean 'sidecar'?",
        "app.yaml:20:22: must be more than 0, got 0",
        "app.yaml:20:42: expected true or false, got the number 1",
        "app.yaml:21:13: the number .inf is not finite",
        "app.yaml:22:7: a key must be text: put '1' in quotes",
        "app.yaml:22:13: as a key, expected letters, digits, '_', '.' and '-', not beginning with a digit, got the text 'a b'",
        "app.yaml:22:23: expected text, got true; put it in quotes",
        "app.yaml:23:1: expected a list, got the text 'x'",
        "app.yaml:24:1: expected a mapping, got a list",
    ]


def test_a_fault_points_into_the_normalised_document():
    faults = refused("name: x\nimage: i\nscaling: {maxWorkers: many}\nplacement: [{type: vm, provider: gce}]\n")
    assert [(fault.pointer, fault.line, fault.column) for fault in faults] == [
        ("/spec/scaling/maxInstances", 3, 11),
        ("/spec/placement/candidates/0", 4, 13),
    ]


def test_contradictions_are_told_where_they_were_written():
    assert told("""\
apiVersion: sluice/v1
kind: App
metadata:
  name: runs
spec:
  handler: a:B
  scaling: {minInstances: 5, maxWorkers: 3}
""") == [
        "app.yaml:4:3: the name 'runs' is reserved for a route of the HTTP API",
        "app.yaml:7:30: must be at least minInstances (5), or 0",
    ]


def test_faults_of_all_documents_are_told():
    assert told("name: a\nimage: i\nx: 1\n---\n- 1\n---\nname: b\nimage: i\n---\nname: b\nimage: i\n") == [
        "app.yaml:3:1: unknown key 'x'",
        "app.yaml:5:1: expected a mapping that describes an app, got a list",
        "app.yaml:10:1: an app above is called 'b' too",
    ]


def test_worker_concurrency_is_no_key():
    (fault,) = refused("name: x\nimage: i\nworker: {concurrency: 4}\n")
    assert (fault.pointer, fault.line, fault.column) == ("/spec/worker/concurrency", 3, 10)


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("apiVersion: penstock/v2\nkind: App\nmetadata: {name: x}\nspec: {image: i}", (1, 1), "expected penstock/v1"),
        ("apiVersion: penstock/v1\nkind: Appp\nmetadata: {name: x}\nspec: {image: i}", (2, 1), "expected App"),
        ("kind: App\nmetadata: {name: x}\nspec: {image: i}", (1, 1), "'apiVersion' is missing"),
        ("apiVersion: penstock/v1\nkind: App\nmetadata: x\nspec: {image: i}", (3, 1), "expected a mapping"),
        ("name: x\nimage: i\nplacement: {mode: vm}", (3, 1), "needs the key 'vm'"),
        ("name: x\nimage: i\nplacement: {mode: all}", (3, 13), "expected one of both, kubernetes, vm"),
        ("name: x\nimage: i\nplacement: {pricing: spot}", (3, 1), "'mode' is missing"),
        ("name: x\nimage: i\nplacement: {mode: vm, vm: {provider: gce, regions: [a]}}", (3, 23), "'machineType'"),
        ("name: x\nimage: i\nscaling: {maxWorkers: 1, maxInstances: 2}", (3, 11), "another name of 'maxInstances'"),
        ("name: |\n  x\nimage: i", (1, 1), "lower-case letters"),
        ("name: x\nimage: i\nname: y", (3, 1), "a second time; it is on line 1"),
        ("name: x\nimage: !!python/name:os.system i", (2, 1), "tag"),
        ("name: x\nimage: i\nenv: !env {}", (3, 1), "the tag !env is not allowed"),
        ("name: x\nimage: i\n? [a]\n: b", (3, 3), "a key must be text"),
        ('name: x\nimage: i\nenv: {A: "\\0"}', (3, 7), "can't be kept"),
        ('name: x\nimage: i\nenv: {A: "\\ud800"}', (3, 7), "can't be kept"),
        ('name: x\nimage: "\\U0011FFFF"', (2, 1), "names no character"),
        ('name: x\nimage: "\\UFFFFFFFF"', (2, 1), "names no character"),
        ("name: x\nimage: i\x07", (2, 9), "U+0007"),
        ("name: x\nimage: i\nmaxBodyBytes: " + "9" * 5000, (3, 1), "beyond 64 bits"),
        ("name: x\nimage: i\ndeadlines: {leaseSeconds: 1e999}", (3, 13), "beyond 64 bits"),
        ("name: x\nworker:\n\tinstances: 1", (3, 1), "a tab can't indent"),
        ("name: x\nimage: [a", (2, 10), "no YAML"),
        ("name: x\nimage: a: b", (2, 9), "no YAML"),
        ("name: x\nimage: i\nenv: &e {A: *e}", (3, 10), "inside of what it names"),
        ("name: x\nimage: *i", (2, 1), "names nothing above it"),
        ("name: x\nimage: i\nenv: {<<: 3}", (3, 7), "takes in a mapping"),
    ],
)
def test_a_bad_input_is_refused_at_its_place(text: str, place: tuple[int, int], part: str):
    fault = refused(text)[0]
    assert part in fault.message
    assert (fault.line, fault.column) == place


DOUBLING = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(20))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("#" * (MAX_TEXT + 1), "longer than"),
        ("[" * MAX_TEXT, "nested deeper"),
        ("- " * (MAX_TEXT // 2), "nested deeper"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(1000)), "nested deeper"),
        ("a: [" + "a," * (MAX_TEXT // 2 - 2), f"more than {MAX_NODES} values"),
        ("---\n" * (MAX_TEXT // 4), f"more than {MAX_NODES} values"),
        (DOUBLING, f"more than {MAX_NODES} values"),
        (DOUBLING.replace("*", "[[[*").replace("]\n", "]]]]]]]\n"), "no YAML"),
        ("a: &a x\nb: [" + "*a, " * (MAX_ALIASES + 1) + "]", f"more than {MAX_ALIASES} aliases"),
        ("a: &a [[[[[[[[[[x]]]]]]]]]]\nb: &b [[[[[[[[[[*a]]]]]]]]]]\nc: [[[[[[[[[[[*b]]]]]]]]]]]", "nested deeper"),
    ],
    ids=["long", "flow", "lists", "mappings", "wide", "documents", "bomb", "broken bomb", "aliases", "deep by alias"],
)
@pytest.mark.timeout(20)
def test_hostile_text_is_refused_soon(text: str, part: str):
    assert any(part in fault.message for fault in refused(text))


def test_many_faults_are_cut_short():
    assert len(refused("name: x\nimage: i\n" + "".join(f"x{i}: 1\n" for i in range(1000)))) == 100


def test_a_tag_runs_nothing(tmp_path: Path):
    trace = tmp_path / "trace"
    refused(f"name: x\nimage: !!python/object/apply:os.system ['touch {trace}']")
    assert not trace.exists()
