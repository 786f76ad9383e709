"""Failures: an exit code that scripts can switch on, and one paragraph that says what to do next."""

import pytest

from penstock.cli.failure import exit_code, paragraph
from penstock.client import RunCancelled, RunFailed, Unfinished, Unreachable
from penstock.errors import (
    Conflict,
    Exceeded,
    Fault,
    Forbidden,
    Gone,
    Invalid,
    InvalidSpec,
    Misconfigured,
    NotFound,
    PenstockError,
    SpecFault,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from penstock.model.documents import Eta, Pending, Problem
from penstock.model.run import State

FAILED = Problem(detail="it raised", code="HANDLER_ERROR", run_id="r1", ticket="t1", state=State.FAILED)
PENDING = Pending(
    ticket="t1",
    run_id="r1",
    state=State.QUEUED,
    retry_after=7,
    eta_seconds=7,
    eta=Eta(7, 9),
    position=3,
    status_url="u",
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PenstockError(), 1),
        (Invalid(), 1),
        (TooLarge(), 1),
        (Conflict(), 1),
        (Exceeded(), 1),
        (Misconfigured(), 1),
        (RunFailed(FAILED), 1),
        (RunCancelled(FAILED), 1),
        (Unfinished(PENDING), 1),
        (NotFound(), 3),
        (Gone(), 3),
        (Unauthenticated(), 4),
        (Forbidden(), 4),
        (Unavailable(), 5),
        (Unreachable(), 5),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


def test_what_is_wrong_with_a_request_is_listed_with_its_place():
    error = Invalid("the query is wrong", faults=[Fault("/limit", "1 to 200"), Fault("", "send an object")])
    assert paragraph(error) == "Error: the query is wrong\n  /limit: 1 to 200\n  /: send an object"


def test_a_spec_is_told_about_as_compilers_do():
    error = InvalidSpec([SpecFault("no such key", "/spec/x", "a.yaml", 3, 7), SpecFault("too few", "/spec/y")])
    assert paragraph(error) == "a.yaml:3:7: no such key\n/spec/y: too few"


def test_a_run_without_result_names_itself_and_where_to_look():
    assert paragraph(RunFailed(FAILED)) == (
        "Error: run/r1 has no result: FAILED: it raised\nNext: penstock explain r1"
    )  # fmt: skip


def test_a_run_that_goes_on_says_how_to_wait():
    assert paragraph(Unfinished(PENDING)) == (
        "Error: run r1 is QUEUED; ask again in 7 s\n"
        "Next: penstock explain r1 says why; penstock result run/r1 --wait waits on"
    )


def test_a_refused_credential_says_how_to_show_one():
    assert paragraph(Unauthenticated("it has expired")).splitlines() == [
        "Error: it has expired",
        "Next: pass --api-key or --token, or set PENSTOCK_API_KEY or PENSTOCK_TOKEN",
    ]


def test_a_fault_of_ours_gives_the_id_to_look_for():
    error = PenstockError("this is our fault")
    error.add_note("request id: abc-1")
    assert paragraph(error) == "Error: this is our fault\n  request id: abc-1"


def test_nothing_in_it_is_obeyed_by_a_terminal():
    assert paragraph(NotFound("no \x1b[2J\x07such\nthing")) == "Error: no  [2J such\nthing"


def test_a_failure_leaves_standard_output_alone(penstock):
    penstock.answers["apps.get"] = NotFound("there is no app named 'x'")
    done = penstock("get", "app", "x")
    assert (done.exit_code, done.stdout, done.stderr) == (3, "", "Error: there is no app named 'x'\n")
