"""What the verbs print, word for word: each kind of thing in each format."""

from datetime import UTC, datetime

import pytest
from pretended_server import NOW

from penstock.cli.kinds import span
from penstock.cli.output import Format, Layout, rows
from penstock.model.documents import (
    AppDocument,
    AppEventDocument,
    AttemptDocument,
    DecisionDocument,
    ExplanationDocument,
    Figures,
    ResultNote,
    RunDocument,
    StepDocument,
    Whoami,
    WorkerDocument,
)
from penstock.model.fleet import WorkerState
from penstock.model.placement import Code, Drop, Phase
from penstock.model.run import AttemptState, Lane, Reason, State


def ago(seconds):
    return datetime.fromtimestamp(NOW - seconds, UTC)


ECHO = AppDocument(
    name="echo", generation=2, etag="e1", desired_state="Ready", phase=Phase.SCALING, message="1 starting",
    queued=12, workers=1, workers_desired=2, created_at=ago(3700), updated_at=ago(60),
)  # fmt: skip
DIGITS = AppDocument(
    name="digits", generation=1, etag="e2", desired_state="Paused", phase=Phase.PAUSED, created_at=ago(5)
)
RUN = RunDocument(
    id="r1", app="echo", tenant="default", ticket="t" * 64, lane=Lane.INFER, state=State.FAILED,
    reason=Reason.HANDLER_ERROR, message="it raised\nValueError", epoch=3, failures=3, tag="nightly", size=9,
    content_type="application/json", created_at=ago(90), timings=Figures(waited=1.25, ran=75.2),
    attempts=(
        AttemptDocument(
            epoch=3, state=AttemptState.FAILED, worker_uid="w-echo-1", reason=Reason.HANDLER_ERROR,
            leased_at=ago(80), finished_at=ago(5),
        ),
    ),
)  # fmt: skip
DONE = RunDocument(
    id="r2", app="echo", tenant="default", ticket="mine", lane=Lane.INFER, state=State.SUCCEEDED, epoch=1,
    created_at=ago(9), result=ResultNote(size=4, content_type="text/plain"),
)  # fmt: skip
WORKER = WorkerDocument(
    worker_uid="w-echo-1", app="echo", state=WorkerState.BUSY, pid=4711, spec_generation=2, started_at=ago(200),
    attempts=41, held=3,
)  # fmt: skip


@pytest.fixture
def server(penstock):
    """Give the program before a server that has two apps, two runs and a worker."""
    penstock.answers |= {
        "apps.list": [DIGITS, ECHO],
        "apps.get": ECHO,
        "runs": lambda **_: [RUN, DONE],
        "get": lambda run_id: {"r1": RUN, "r2": DONE}[run_id],
        "workers": lambda **_: (WORKER,),
        "whoami": Whoami("ada", "lab", ("apps:read", "jobs:submit")),
    }
    return penstock


GOLDEN = {
    "get apps": """\
NAME     PHASE     WORKERS   QUEUED   RUNNING   AGE
digits   Paused    0/0       0        0         5.0s
echo     Scaling   1/2       12       0         1h01m
""",
    "get apps -o wide": """\
NAME     PHASE     WORKERS   QUEUED   RUNNING   AGE     GENERATION   WANTED   MESSAGE
digits   Paused    0/0       0        0         5.0s    1            Paused   -
echo     Scaling   1/2       12       0         1h01m   2            Ready    1 starting
""",
    "get apps -o name": "app/digits\napp/echo\n",
    "get apps -o yaml": """\
items:
- name: digits
  generation: 1
  etag: e2
  desired_state: Paused
  phase: Paused
  reason: null
  message: ''
  queued: 0
  running: 0
  workers: 0
  workers_desired: 0
  labels: {}
  created_at: '2030-03-17T17:46:35Z'
  updated_at: null
  spec: {}
- name: echo
  generation: 2
  etag: e1
  desired_state: Ready
  phase: Scaling
  reason: null
  message: 1 starting
  queued: 12
  running: 0
  workers: 1
  workers_desired: 2
  labels: {}
  created_at: '2030-03-17T16:45:00Z'
  updated_at: '2030-03-17T17:45:40Z'
  spec: {}
next: null
""",
    "get runs": """\
ID   APP    STATE       REASON          ATTEMPT   WAITED   TOOK    AGE
r1   echo   FAILED      HANDLER_ERROR   3         1.2s     1m15s   1m30s
r2   echo   SUCCEEDED   -               1         -        -       9.0s
""",
    "runs -o name": "run/r1\nrun/r2\n",
    "get run r1 -o wide": """\
ID   APP    STATE    REASON          ATTEMPT   WAITED   TOOK    AGE     TICKET                 LANE    PRIORITY   PROGRESS   TAG       MESSAGE
r1   echo   FAILED   HANDLER_ERROR   3         1.2s     1m15s   1m30s   ttttttttttttttttt...   infer   5          -          nightly   it raised ValueError
""",
    "get run/r2 -o json": """\
{
  "id": "r2",
  "app": "echo",
  "tenant": "default",
  "ticket": "mine",
  "lane": "infer",
  "state": "SUCCEEDED",
  "reason": null,
  "message": "",
  "generation": 1,
  "spec_generation": 1,
  "priority": 5,
  "epoch": 1,
  "failures": 0,
  "progress": null,
  "progress_note": "",
  "tag": null,
  "parent": null,
  "size": 0,
  "content_type": "",
  "result": {
    "size": 4,
    "content_type": "text/plain"
  },
  "created_at": "2030-03-17T17:46:31Z",
  "queued_at": null,
  "started_at": null,
  "finished_at": null,
  "expires_at": null,
  "purged_at": null,
  "timings": null,
  "placement": null,
  "links": null
}
""",
    "get workers": """\
NAME       APP    STATE   HOLDS   RUNS   AGE
w-echo-1   echo   BUSY    3       41     3m20s
""",
    "get workers -o wide": """\
NAME       APP    STATE   HOLDS   RUNS   AGE     PID    NODE   GENERATION   EXIT   REASON
w-echo-1   echo   BUSY    3       41     3m20s   4711   -      2            -      -
""",
    "get worker w-echo-1 -o name": "worker/w-echo-1\n",
    "status echo -o name": "app/echo\n",
    "whoami": "ada of tenant lab\n  apps:read\n  jobs:submit\n",
}


@pytest.mark.parametrize("words", GOLDEN)
def test_golden(server, words):
    assert server.out(*words.split()) == GOLDEN[words]


def test_filters_are_passed_on(server):
    server.out("runs", "--app", "app/echo", "--state", "failed", "--reason", "oom", "--tag", "a", "--limit", "7")
    assert server.client.calls == [
        ("runs", (), {"most": 7, "app": "echo", "state": "FAILED", "reason": "OOM", "tag": "a"})
    ]


def test_nothing_to_show_says_what_to_type_next(server):
    server.answers["apps.list"] = []
    done = server("get", "apps")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "There are no apps yet. Apply one: penstock apply -f app.yaml\n"
    assert server.out("get", "apps", "-o", "json") == '{\n  "items": [],\n  "next": null\n}\n'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("get boats", "There are apps, runs and workers, but no 'boats'."),
        ("get app/echo run/r1", "Ask for one kind at a time"),
        ("explain app/echo", "names a app, and a run is wanted"),
        ("pause UPPER", "can't be an app"),
        ("runs --state LOST", "Invalid value for '--state'"),
        ("wait echo --for ready", "Wait for app/NAME or run/ID."),
        ("wait app/echo --for succeeded", "A app can be ready"),
        ("describe echo", "Describe an app or a run"),
        ("cancel echo", "Name an app and a ticket"),
    ],
)
def test_what_is_written_wrongly(server, words, said):
    done = server(*words.split())
    assert done.exit_code == 2
    assert said in done.stderr


def test_describe_app(server):
    server.answers |= {
        "apps.events": (AppEventDocument(id=1, app="echo", at=ago(60), kind="ScaledUp", message="1 more"),),
        "apps.decisions": (
            DecisionDocument(
                id=1, app="echo", at=ago(61), chosen="local", workers=("w-echo-1",),
                dropped={"l4": Drop(Code.NOT_OFFERED, "no cluster is registered")},
            ),
        ),
        "apps.spec": "kind: App\n",
    }  # fmt: skip
    assert (
        server.out("describe", "app", "echo")
        == """\
app/echo
  phase        Scaling (1 starting)
  wanted       Ready
  runs         12 queued, 0 running
  workers      1 live, 2 wanted
  generation   2, since 1m00s

Workers
  NAME       APP    STATE   HOLDS   RUNS   AGE     PID    NODE   GENERATION   EXIT   REASON
  w-echo-1   echo   BUSY    3       41     3m20s   4711   -      2            -      -

Events
  AGE     KIND       WORKER   MESSAGE
  1m00s   ScaledUp   -        1 more

Placements
  AGE     CHOSEN   WORKERS    DROPPED
  1m01s   local    w-echo-1   l4: NOT_OFFERED, no cluster is registered

Spec
  kind: App
"""
    )


def test_describe_run(server):
    server.answers["explain"] = ExplanationDocument(
        run_id="r1", state=State.FAILED, reason=Reason.HANDLER_ERROR, summary="It ended FAILED",
        steps=(StepDocument(kind="accepted", text="as generation 1", at=ago(90)), StepDocument(kind="app", text="gone")),
    )  # fmt: skip
    assert (
        server.out("describe", "run/r1")
        == f"""\
run/r1
  app          echo (generation 1)
  ticket       {"t" * 64}
  state        FAILED (HANDLER_ERROR: it raised ValueError)
  accepted     1m30s ago, lane infer, priority 5
  waited       1.2s
  ran          1m15s
  body         9 bytes of application/json
  tag          nightly

Attempts
  EPOCH   STATE    WORKER     AGE     TOOK    EXIT   REASON          MESSAGE
  3       FAILED   w-echo-1   1m20s   1m15s   -      HANDLER_ERROR   -

Story
  It ended FAILED.
  AGE     GATE       FOUND
  1m30s   accepted   as generation 1
  -       app        gone
"""
    )
    assert server.out("explain", "r1").splitlines()[:2] == ["It ended FAILED.", "  AGE     GATE       FOUND"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0s"), (0.04, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m00s"), (3599.6, "1h00m"),
     (86_399, "23h59m"), (86_400, "1d00h"), (1e7, "115d17h")],
)  # fmt: skip
def test_spans_of_time(seconds, text):
    assert span(seconds) == text


def test_wide_letters_keep_columns_aligned():
    assert rows(["A", "B"], [["日本", "x"], ["e\u0301", "y"]]) == ["A      B", "日本   x", "e\u0301      y"]


def test_nothing_in_a_table_is_obeyed_by_a_terminal():
    assert rows(["A"], [["\x1b[31mred\nline"]])[1] == " [31mred line"


def test_columns_only_grow_while_watching():
    from penstock.cli.kinds import APPS

    layout = Layout(APPS, Format.TABLE)
    head, first = layout.lines([ECHO], now=NOW)
    (second,) = layout.lines([DIGITS], now=NOW)
    assert head.index("PHASE") == first.index("Scaling")
    assert second.index("Paused") >= first.index("Scaling")


def test_states_are_coloured_where_colours_are_taken():
    from penstock.cli.kinds import RUNS

    lines = Layout(RUNS, Format.TABLE, colours=True).lines([RUN], now=NOW)
    assert "\x1b" not in lines[0]
    assert "\x1b[31mFAILED\x1b[0m" in lines[1]
