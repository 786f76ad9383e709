"""What a user writes is typed: read by mypy, never run."""

from typing import Any, assert_type

from penstock import CurrentRun, Handler, InvalidInput, Response, Retry, current_run


class Plain(Handler):
    """Synchronous, with plain outputs."""

    def load(self) -> None:
        self.weights = [0.5]

    def predict(self, batch: list[Any]) -> list[dict[str, float]]:
        return [{"score": self.weights[0]} for _ in batch]


class Eager(Handler):
    """Asynchronous, with every kind of output."""

    concurrency = 4

    async def predict(self, batch: list[Any]) -> list[Response | InvalidInput | Retry | str]:
        run = current_run()
        assert_type(run, CurrentRun)
        assert_type(run.cancelled, bool)
        assert_type(run.last_checkpoint, bytes | None)
        run.progress(0.5, "half")
        await run.checkpoint(b"so far")
        return [Response(b"", "image/png"), InvalidInput("no"), Retry("later", after=2.5), "text"]

    def health(self) -> bool:
        return True


class Decoding(Handler):
    """With an input of its own kind."""

    def decode(self, body: bytes, content_type: str) -> list[str]:
        return body.decode().split(content_type)

    def encode(self, output: Any) -> Response:
        return Response(str(output).encode(), "text/plain")

    def predict(self, batch: list[list[str]]) -> list[int]:
        return [len(words) for words in batch]


def wrong() -> None:
    """What must not pass."""
    Response("text")  # type: ignore[arg-type]
    Retry(after="soon")  # type: ignore[arg-type]
    current_run().progress("half")  # type: ignore[arg-type]
