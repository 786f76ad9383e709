"""The normalised document of an app: its types, its JSON Schema, and the YAML that is written from it."""

from __future__ import annotations

import io
import re
import sys
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from msgspec import field
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from penstock.model.app import Annotations, App, AppName, Labels, Spec
from penstock.model.section import Section

from .reader import plain_scalar

__all__ = ["API_VERSION", "Manifest", "Metadata", "emit", "schema"]

API_VERSION: Final = "penstock/v1"


class Metadata(Section, frozen=True, kw_only=True):
    """Who the app is."""

    name: AppName
    labels: Labels = field(default_factory=dict)
    annotations: Annotations = field(default_factory=dict)


class Manifest(Section, frozen=True, kw_only=True):
    """An app as a YAML document."""

    api_version: Literal["penstock/v1"]
    kind: Literal["App"]
    metadata: Metadata
    spec: Spec

    def app(self) -> App:
        """Give the app that the document describes."""
        spec = {name: getattr(self.spec, name) for name in Spec.__struct_fields__}
        return App(name=self.metadata.name, labels=self.metadata.labels, annotations=self.metadata.annotations, **spec)


def emit(app: App) -> str:
    """Give the app as YAML that can be applied again: the Kubernetes-like spelling, with defaults left out."""
    fields = _plain(app)
    metadata = {key: fields.pop(key) for key in Metadata.__struct_encode_fields__ if key in fields}
    document = {"apiVersion": API_VERSION, "kind": "App", "metadata": metadata, "spec": fields}
    yaml = YAML(pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = sys.maxsize
    yaml.indent(mapping=2, sequence=4, offset=2)
    # The representer would write equal texts as anchor and alias.
    yaml.representer.ignore_aliases = lambda _: True
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of a document in the Kubernetes-like spelling."""
    body = msgspec.json.schema(Manifest)
    spec = body["$defs"]["Spec"]["properties"]
    candidates = body["$defs"]["Placement"]["properties"]["candidates"]
    placement = spec["placement"]
    spec["placement"] = {
        "description": placement.pop("description"),
        "default": placement.pop("default"),
        "anyOf": [placement, {"type": "array", "items": candidates["items"]}],
    }
    # A lane that is off is left out: null would read as if it were on with its defaults.
    spec["batch"] = {"description": spec["batch"]["description"], "$ref": "#/$defs/Batch"}
    body["$defs"]["Manifest"]["properties"]["apiVersion"]["enum"] = [API_VERSION, "sluice/v1"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Penstock app", **body}


WHOLE: Final = 2.0**53  # up to here a float without fraction is the same number as an int
BARE: Final = re.compile(r"[A-Za-z0-9_./]([A-Za-z0-9_./+@:-]*[A-Za-z0-9_./+@-])?")


def _plain(value: object) -> Any:
    """Give a value in dicts, lists and scalars, without the fields that are at their defaults."""
    match value:
        case msgspec.Struct():
            config = value.__struct_config__
            tag = {config.tag_field: config.tag} if config.tag_field else {}
            return tag | {
                key: _plain(inner)
                for key, name, default in _fields(type(value))
                if (inner := getattr(value, name)) != default
            }
        case dict():
            return {_plain(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case str():
            return _text(str(value))
        case float() if value.is_integer() and abs(value) < WHOLE:
            return int(value)
        case _:
            return value


def _text(text: str) -> str:
    """Give the text so that it is written bare only where it will be read as the same text."""
    if BARE.fullmatch(text):
        try:
            if plain_scalar(text) == text:
                return text
        except ValueError:
            pass
    quoted: str = DoubleQuotedScalarString(text)
    return quoted


@lru_cache
def _fields(kind: type[msgspec.Struct]) -> list[tuple[str, str, Any]]:
    return [
        (
            entry.encode_name,
            entry.name,
            entry.default_factory() if entry.default_factory is not msgspec.NODEFAULT else entry.default,
        )
        for entry in msgspec.structs.fields(kind)
    ]
