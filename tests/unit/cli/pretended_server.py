"""The program in this process, with an environment and a clock of the test's own, before a server that is pretended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner, Result

from penstock.cli.session import Session
from penstock.run.program import program

NOW = 1_900_000_000.0


class Pretended:
    """A client whose calls give what the test put there: `answers["apps.get"]` is a value, an error, or a function."""

    def __init__(self, answers: dict[str, Any], path: str = "") -> None:
        self._answers = answers
        self._path = path
        if not path:
            self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
            self.apps = Pretended(answers, "apps.")
            self.apps.calls = self.calls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        path = f"{self._path}{name}"
        if path in ("apps.list", "runs", "events", "apps.logs"):
            return lambda *args, **named: _each(self._given(path, args, named))

        async def call(*args: Any, **named: Any) -> Any:
            return self._given(path, args, named)

        return call

    def _given(self, path: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self.calls.append((path, args, named))
        answer = self._answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer(*args, **named) if callable(answer) else answer


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


class Penstock:
    """`penstock ...` as a test calls it."""

    def __init__(self, home: Path) -> None:
        self.environ = {"HOME": str(home)}
        self.answers: dict[str, Any] = {}
        self.client = Pretended(self.answers)

    def session(self) -> Session:
        session = Session(self.environ, now=lambda: NOW)
        if self.answers:
            session.client = lambda **_: self.client  # type: ignore[method-assign, assignment, return-value]
        return session

    def __call__(self, *words: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(program(), list(words), input=stdin, obj=self.session(), prog_name="penstock")

    def out(self, *words: str, stdin: str | bytes | None = None) -> str:
        """Call it, see that it succeeds, and give what it wrote on standard output."""
        done = self(*words, stdin=stdin)
        assert done.exit_code == 0, done.output
        return done.stdout
