"""Finds the endpoint for a method and a path: a tree of segments, so its cost does not grow with the routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from penstock.errors import NotFound

from .endpoint import Endpoint
from .refusals import MethodNotAllowed

__all__ = ["Router"]

_REST: Final = "..."


class _Node:
    """One place in the tree. A fixed segment goes before a parameter."""

    __slots__ = ("fixed", "methods", "name", "takes_rest", "variable")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.variable: _Node | None = None
        self.name = ""  # of the parameter that led here
        self.takes_rest = False
        self.methods: dict[str, Endpoint] = {}


class Router:
    """The endpoints of a gateway, by path and method. HEAD is answered by the GET of its path."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._root = _Node()
        for endpoint in endpoints:
            self._add(endpoint)

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """Give the endpoint and the path's parameters. Raises `NotFound` and `MethodNotAllowed`."""
        node, params = self._walk(path)
        endpoint = node.methods.get(method)
        if endpoint is None:
            raise MethodNotAllowed(method, tuple(node.methods))
        return endpoint, params

    def _walk(self, path: str) -> tuple[_Node, dict[str, str]]:
        node, params = self._root, {}
        segments = path.split("/")
        for index in range(1, len(segments)):
            segment = segments[index]
            onward = node.fixed.get(segment)
            if onward is None:
                onward = node.variable
                if onward is None or not segment:
                    raise NotFound("there is nothing at this path; /openapi.json lists what there is")
                if onward.takes_rest:
                    params[onward.name] = "/".join(segments[index:])
                    return onward, params
                params[onward.name] = segment
            node = onward
        if not node.methods:
            raise NotFound("there is nothing at this path; /openapi.json lists what there is")
        return node, params

    def _add(self, endpoint: Endpoint) -> None:
        node = self._root
        for segment in endpoint.path.split("/")[1:]:
            node = _onward(node, segment, endpoint.path)
        if endpoint.method in node.methods:
            raise ValueError(f"{endpoint.method} {endpoint.path} is declared twice")
        node.methods[endpoint.method] = endpoint
        if endpoint.method == "GET":
            node.methods.setdefault("HEAD", endpoint)


def _onward(node: _Node, segment: str, path: str) -> _Node:
    if not segment.startswith("{"):
        return node.fixed.setdefault(segment, _Node())
    name = segment[1:-1].removesuffix(_REST)
    if node.variable is None:
        node.variable = _Node()
        node.variable.name = name
        node.variable.takes_rest = segment.endswith(_REST + "}")
    elif node.variable.name != name:
        raise ValueError(f"{path} calls {name!r} what another path calls {node.variable.name!r}")
    return node.variable
