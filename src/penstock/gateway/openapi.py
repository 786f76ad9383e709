"""The API's description (OpenAPI 3.1), made from the endpoints, and a page to read it in."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from penstock import errors
from penstock._version import __version__
from penstock.model.documents import Problem

from .endpoint import IDEMPOTENCY_PATTERN, PUBLIC, SIGNED, WORKER, Answer, Endpoint, Header, Media
from .problem import MEDIA_TYPE
from .refusals import MethodNotAllowed

__all__ = ["describe", "page"]

_ANYWHERE: Final[tuple[type[errors.PenstockError], ...]] = (errors.Malformed, errors.Forbidden, errors.Unavailable)
_HEADER_TEXTS: Final = {
    "Retry-After": "Seconds until it is worth asking again.",
    "Location": "Where to ask again.",
    "Penstock-Run-Id": "The run that this answer is about.",
    "Penstock-Ticket": "Its ticket.",
    "Penstock-Cache": "hit (an earlier result), joined (a run in flight) or miss (a run of its own).",
    "Penstock-Rid-Reused": "true when an earlier body with this `_rid` won over this one.",
    "Penstock-State": "The run's state.",
    "Preference-Applied": "What of Prefer was honoured.",
    "ETag": "The version, for If-Match.",
    "Content-Range": "Which bytes of how many.",
}


def describe(endpoints: Iterable[Endpoint], public_url: str) -> dict[str, Any]:
    """Give the OpenAPI 3.1 document of these endpoints, served at `public_url`."""
    endpoints = list(endpoints)
    schemas = _Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(_path(endpoint), {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": __version__, "description": "A durable queue in front of GPUs."},
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": _SECURITY},
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
    }


_SECURITY: Final = {
    "worker": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A worker's token."},
    "user": {"type": "http", "scheme": "bearer", "description": "A JWT or an API key; not asked for on loopback."},
}


class _Schemas:
    """The JSON Schemas of every type that the endpoints name."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        kinds = [Problem, *(kind for endpoint in endpoints for kind in _kinds(endpoint))]
        self._kinds = list(dict.fromkeys(kinds))
        found, self.components = msgspec.json.schema_components(self._kinds, ref_template="#/components/schemas/{name}")
        self._found = dict(zip(self._kinds, found, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """Give the schema of a type, as a reference where it has a name."""
        schema: dict[str, Any] = self._found[kind]
        return schema

    def properties(self, kind: type[msgspec.Struct]) -> dict[str, Any]:
        """Give the schemas of a record's fields."""
        name = self.of(kind)["$ref"].rpartition("/")[2]
        fields: dict[str, Any] = self.components[name]["properties"]
        return fields


def _kinds(endpoint: Endpoint) -> list[Any]:
    bodies = [endpoint.body, *(answer.body for answer in endpoint.answers)]
    kinds = [body for body in bodies if body is not None and not isinstance(body, Media)]
    return [*kinds, *([endpoint.query] if endpoint.query else [])]


def _path(endpoint: Endpoint) -> str:
    return endpoint.path.replace("...}", "}")


def _operation(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "description": (endpoint.handler.__doc__ or "").strip(),
        "tags": [endpoint.tag],
        "x-scope": endpoint.scope,
        "parameters": _parameters(endpoint, schemas),
        "responses": _responses(endpoint, schemas),
        "security": _security(endpoint),
    }
    if endpoint.body is not None:
        content = _content(endpoint.body, schemas)
        operation["requestBody"] = {"required": not endpoint.may_be_empty, "content": content}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    return "_".join([endpoint.method.lower(), *re.findall(r"\w+", endpoint.path)])


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.scope in (PUBLIC, SIGNED):
        return []
    return [{"worker": []}] if endpoint.scope == WORKER else [{"user": [endpoint.scope]}, {}]


def _parameters(endpoint: Endpoint, schemas: _Schemas) -> list[dict[str, Any]]:
    names = [part[1:-1].removesuffix("...") for part in endpoint.path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    if endpoint.query is not None:
        for name, schema in schemas.properties(endpoint.query).items():
            found.append({"name": name, "in": "query", "required": False, "schema": schema})
    headers = [*endpoint.headers, *([_IDEMPOTENCY] if endpoint.pinned else [])]
    return found + [_header(header) for header in headers]


def _header(header: Header) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": header.name,
        "in": "header",
        "required": False,
        "description": header.text,
        "schema": {"type": "string", **({"pattern": header.pattern} if header.pattern else {})},
    }
    return {**described, "example": header.example} if header.example else described


_IDEMPOTENCY: Final = Header(
    "Idempotency-Key",
    "The same key and the same request get the same answer, for 24 hours; quoted or bare.",
    IDEMPOTENCY_PATTERN,
)


def _responses(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    responses = {str(answer.status): _answer(answer, schemas) for answer in endpoint.answers}
    refusals: dict[int, list[str]] = {}
    for error in (*_ANYWHERE, *endpoint.errors, *_implied(endpoint)):
        codes = refusals.setdefault(error.status, [])
        if error.code not in codes:
            codes.append(error.code)
    problem = {"content": {MEDIA_TYPE: {"schema": schemas.of(Problem)}}}
    for status, codes in sorted(refusals.items()):
        responses.setdefault(
            str(status), {"description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}.", **problem}
        )
    responses["default"] = {"description": "Any other failure.", **problem}
    return responses


def _implied(endpoint: Endpoint) -> list[type[errors.PenstockError]]:
    implied: list[type[errors.PenstockError]] = [MethodNotAllowed]
    if "{" in endpoint.path:
        implied.append(errors.NotFound)
    if endpoint.body is not None:
        implied.append(errors.TooLarge)
    if endpoint.body is not None or endpoint.query is not None or endpoint.headers:
        implied.append(errors.Invalid)
    if endpoint.scope == WORKER:
        implied.append(errors.Unauthenticated)
    if endpoint.pinned:
        implied += [errors.Conflict, errors.Invalid]
    return implied


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.text}
    if answer.body is not None:
        described["content"] = _content(answer.body, schemas)
    if answer.headers:
        described["headers"] = {
            name: {"description": _HEADER_TEXTS[name], "schema": {"type": "string"}} for name in answer.headers
        }
    return described


def _content(body: Any, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(body, Media):
        return {body.type: {"schema": {"description": body.text} if body.text else {}}}
    return {"application/json": {"schema": schemas.of(body)}}


# ------------------------------------------------------------------ the page

_STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
details { border: 1px solid #8884; border-radius: .5rem; margin: .4rem 0; padding: .4rem .8rem }
summary { cursor: pointer } code, pre { font: .92em ui-monospace, monospace } pre { overflow: auto }
b { display: inline-block; min-width: 4.2em } i { opacity: .7; font-style: normal } table { border-spacing: .8em .1em }
th, td { text-align: left; vertical-align: top } h2 { margin-top: 2rem }
"""


def page(described: dict[str, Any]) -> bytes:
    """Give the description as one HTML page that needs nothing else: no script, no network."""
    sections = []
    for tag in described["tags"]:
        rows = [
            _row(method, path, operation)
            for path, methods in described["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        sections.append(f"<h2>{html.escape(tag['name'])}</h2>{''.join(rows)}")
    schemas = "".join(_schema(name, schema) for name, schema in sorted(described["components"]["schemas"].items()))
    title = f"Penstock {html.escape(described['info']['version'])}: HTTP API"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f'<p>The same as data: <a href="/openapi.json">openapi.json</a></p>{"".join(sections)}'
        f"<h2>Types</h2>{schemas}</html>"
    ).encode()


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{html.escape(one['name'])}</code><td><i>{one['in']}</i>"
        f"<td>{html.escape(one.get('description') or one['schema'].get('description', ''))}"
        for one in operation["parameters"]
    )
    responses = "".join(
        f"<tr><td>{status}<td>{html.escape(one['description'])}<td>{_types(one)}"
        for status, one in operation["responses"].items()
    )
    body = f"<p>Body: {_types(operation['requestBody'])}</p>" if "requestBody" in operation else ""
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code> "
        f"{html.escape(operation['summary'])}</summary><p><i>scope {html.escape(operation['x-scope'])}</i></p>"
        f"<table>{parameters}</table>{body}<table>{responses}</table></details>"
    )


def _types(described: dict[str, Any]) -> str:
    shown = []
    for media, content in described.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        link = f' <a href="#{html.escape(name)}">{html.escape(name)}</a>' if name else ""
        shown.append(f"<code>{html.escape(media)}</code>{link}")
    return ", ".join(shown)


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = html.escape(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())
    return f'<details id="{html.escape(name)}"><summary><code>{html.escape(name)}</code></summary><pre>{text}</pre></details>'
