"""The judge must find each broken promise in a history that breaks just that one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.testing.history import Acceptance, Answer, AttemptRow, Execution, History, RunRow, judge


def good() -> History:
    return History(
        acceptances=[Acceptance("k", "r")],
        answers=[Answer("k", "r", "SUCCEEDED", "d", 2), Answer("k", "r", "SUCCEEDED", "d", 2)],
        executions=[Execution("r", 1), Execution("r", 2)],
        runs=[RunRow("r", "k", 1, "SUCCEEDED", 2, has_result=True)],
        attempts=[AttemptRow("r", 1, "LOST"), AttemptRow("r", 2, "SUCCEEDED")],
    )


def test_a_good_history_breaks_nothing() -> None:
    assert judge(good()) == []


def spoilt() -> dict[str, History]:
    base = good()
    run = base.runs[0]
    return {
        "acceptance": replace(base, acceptances=[*base.acceptances, Acceptance("k2", "gone")]),
        "no run stays non-terminal": replace(base, runs=[run, RunRow("q", "k9", 1, "QUEUED", 0)]),
        "exactly one result": replace(
            base,
            runs=[run, replace(run, run_id="r2", generation=2, epoch=1)],
            attempts=[*base.attempts, AttemptRow("r2", 1, "SUCCEEDED")],
        ),
        "publication is exactly once": replace(
            base, attempts=[AttemptRow("r", 1, "SUCCEEDED"), AttemptRow("r", 2, "SUCCEEDED")]
        ),
        "fencing": replace(base, answers=[Answer("k", "r", "SUCCEEDED", "d", 1)]),
        "first terminal wins": replace(base, answers=[*base.answers, Answer("k", "r", "FAILED")]),
        "publication": replace(base, runs=[replace(run, has_result=False)]),
        "delivery": replace(base, executions=[Execution("r", 2), Execution("r", 2)]),
    }


@pytest.mark.parametrize("promise", sorted(spoilt()))
def test_a_broken_promise_is_named(promise: str) -> None:
    assert promise in {violation.promise for violation in judge(spoilt()[promise])}


def test_an_execution_that_was_never_leased_is_found() -> None:
    history = replace(good(), executions=[Execution("r", 3)])
    assert [violation.promise for violation in judge(history)] == ["fencing"]


def test_a_missing_attempt_is_found() -> None:
    history = replace(good(), attempts=good().attempts[1:], executions=[])
    assert [violation.promise for violation in judge(history)] == ["fencing"]
