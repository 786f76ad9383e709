"""The smallest app: it answers what it is asked."""

from __future__ import annotations

from penstock import Handler, Response

__all__ = ["Echo"]


class Echo(Handler):
    """Gives each body back as it came, byte for byte, under its own content type."""

    def decode(self, body: bytes, content_type: str) -> Response:
        """Give the body unread: an echo needs no meaning."""
        return Response(body, content_type)

    def predict(self, batch: list[Response]) -> list[Response]:
        """Give the inputs."""
        return batch
