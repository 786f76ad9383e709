"""What every section of an app's spec is made of: a strict base, and the kinds of value that a field may hold."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

__all__ = [
    "AtLeastZero",
    "Count",
    "KeyName",
    "LabelKey",
    "LabelValue",
    "Name",
    "NonEmpty",
    "Positive",
    "Section",
    "Word",
]

END: Final = r"$(?!\n)"  # `$` alone would let a final line break through; `\Z` is not known to JSON Schema


class Section(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"
):
    """A strict, frozen part of a spec: unknown keys are refused, and keys are camelCase outside of Python."""


Positive = Annotated[float, Meta(gt=0)]
AtLeastZero = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
NonEmpty = Annotated[str, Meta(min_length=1)]
Word = Annotated[str, Meta(pattern=rf"^\S+{END}", extra={"expected": "text without white space"})]
Name = Annotated[
    str,
    Meta(
        max_length=40,
        pattern=rf"^[a-z0-9]([-a-z0-9]*[a-z0-9])?{END}",
        extra={"expected": "at most 40 lower-case letters, digits and inner hyphens"},
    ),
]
KeyName = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=rf"^[A-Za-z_][A-Za-z0-9_.-]*{END}",
        extra={"expected": "letters, digits, '_', '.' and '-', not beginning with a digit"},
    ),
]
LabelKey = Annotated[
    str,
    Meta(
        max_length=317,
        pattern=rf"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?{END}",
        extra={"expected": "a Kubernetes label key, as in 'team' or 'example.org/team'"},
    ),
]
LabelValue = Annotated[
    str,
    Meta(
        max_length=63,
        pattern=rf"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?{END}",
        extra={"expected": "a Kubernetes label value: at most 63 letters, digits and inner '-', '_', '.'"},
    ),
]
