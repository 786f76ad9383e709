"""A judge of what really happened: reads a recorded history and says which promise was broken.

It shares no code with the product on purpose: words are plain text, records are its own. A history is what clients saw
from outside (acceptances and answers), what handlers saw from inside (executions), and what stands in the ledger at the
end (runs and attempts), each as the recorder found it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Acceptance", "Answer", "AttemptRow", "Execution", "History", "RunRow", "Violation", "judge"]

ENDS = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


@dataclass(frozen=True)
class Acceptance:
    """A client was told 2xx: its request `key` is taken in as run `run_id`."""

    key: str
    run_id: str


@dataclass(frozen=True)
class Answer:
    """A client was told how a request ended: the state, and the epoch that the result's own bytes claim."""

    key: str
    run_id: str
    state: str
    digest: str = ""
    epoch: int | None = None


@dataclass(frozen=True)
class Execution:
    """A handler began to work on an attempt."""

    run_id: str
    epoch: int


@dataclass(frozen=True)
class RunRow:
    """A run as it stands in the ledger at the end."""

    run_id: str
    key: str
    generation: int
    state: str
    epoch: int
    reason: str = ""
    has_result: bool = False


@dataclass(frozen=True)
class AttemptRow:
    """An attempt as it stands in the ledger at the end."""

    run_id: str
    epoch: int
    state: str


@dataclass
class History:
    """Everything recorded."""

    acceptances: list[Acceptance] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    runs: list[RunRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)


@dataclass(frozen=True)
class Violation:
    """A broken promise: which, and by what."""

    promise: str
    text: str


def judge(history: History) -> list[Violation]:
    """Give every broken promise of a finished history; none at all means that it kept them."""
    return [violation for check in _CHECKS for violation in check(history)]


def _nothing_lost(history: History) -> Iterator[Violation]:
    present = {run.run_id for run in history.runs}
    for accepted in history.acceptances:
        if accepted.run_id not in present:
            yield Violation("acceptance", f"{accepted.key} was accepted as {accepted.run_id}, which is gone")


def _all_ended(history: History) -> Iterator[Violation]:
    for run in history.runs:
        if run.state not in ENDS:
            yield Violation("no run stays non-terminal", f"{run.run_id} is {run.state}")


def _one_live_run_a_key(history: History) -> Iterator[Violation]:
    wins = Counter(run.key for run in history.runs if run.state == "SUCCEEDED")
    for key, count in wins.items():
        if count > 1:
            yield Violation("exactly one result", f"{key} ran {count} times to success")


def _one_success_a_run(history: History) -> Iterator[Violation]:
    wins = Counter(attempt.run_id for attempt in history.attempts if attempt.state == "SUCCEEDED")
    for run in history.runs:
        expected = 1 if run.state == "SUCCEEDED" else 0
        if wins[run.run_id] != expected:
            text = f"{run.run_id} is {run.state} with {wins[run.run_id]} successful attempts"
            yield Violation("publication is exactly once", text)


def _published_by_the_committed_epoch(history: History) -> Iterator[Violation]:
    committed = {run.run_id: run.epoch for run in history.runs if run.state == "SUCCEEDED"}
    winners = {attempt.run_id: attempt.epoch for attempt in history.attempts if attempt.state == "SUCCEEDED"}
    for run_id, epoch in committed.items():
        if winners.get(run_id, epoch) != epoch:
            yield Violation("fencing", f"{run_id} stands at epoch {epoch}, attempt {winners[run_id]} succeeded")
    for answer in history.answers:
        if answer.epoch is not None and committed.get(answer.run_id, answer.epoch) != answer.epoch:
            text = f"{answer.run_id} showed the result of epoch {answer.epoch}, committed is {committed[answer.run_id]}"
            yield Violation("fencing", text)


def _first_end_stays(history: History) -> Iterator[Violation]:
    shown: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for answer in history.answers:
        shown[answer.run_id].add((answer.state, answer.digest))
    final = {run.run_id: run.state for run in history.runs}
    for run_id, ends in shown.items():
        if len(ends) > 1:
            yield Violation("first terminal wins", f"{run_id} was seen to end in {len(ends)} ways")
        for state, _ in ends:
            if final.get(run_id, state) != state:
                yield Violation("first terminal wins", f"{run_id} was seen {state} and stands {final[run_id]}")


def _succeeded_with_a_result(history: History) -> Iterator[Violation]:
    for run in history.runs:
        if run.state == "SUCCEEDED" and not run.has_result:
            yield Violation("publication", f"{run.run_id} succeeded without a result")


def _executed_only_when_leased(history: History) -> Iterator[Violation]:
    leased = {(attempt.run_id, attempt.epoch) for attempt in history.attempts}
    seen: Counter[tuple[str, int]] = Counter((each.run_id, each.epoch) for each in history.executions)
    for (run_id, epoch), count in seen.items():
        if (run_id, epoch) not in leased:
            yield Violation("fencing", f"{run_id} was executed as epoch {epoch}, which was never leased")
        if count > 1:
            yield Violation("delivery", f"epoch {epoch} of {run_id} was executed {count} times")


def _epochs_are_dense(history: History) -> Iterator[Violation]:
    epochs: dict[str, list[int]] = defaultdict(list)
    for attempt in history.attempts:
        epochs[attempt.run_id].append(attempt.epoch)
    for run in history.runs:
        if sorted(epochs[run.run_id]) != list(range(1, run.epoch + 1)):
            yield Violation("fencing", f"{run.run_id} stands at epoch {run.epoch} with attempts {epochs[run.run_id]}")


_CHECKS = (
    _nothing_lost,
    _all_ended,
    _one_live_run_a_key,
    _one_success_a_run,
    _published_by_the_committed_epoch,
    _first_end_stays,
    _succeeded_with_a_result,
    _executed_only_when_leased,
    _epochs_are_dense,
)


def summary(violations: Iterable[Violation]) -> str:
    """Give violations for people, one a line, at most fifty."""
    lines = [f"{violation.promise}: {violation.text}" for violation in violations]
    return "\n".join([*lines[:50], *([f"... and {len(lines) - 50} more"] if len(lines) > 50 else [])])
