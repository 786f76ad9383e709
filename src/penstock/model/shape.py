"""What is wrong with a plain document, judged against the Struct that it should become.

msgspec says the first fault, in the words of Python's types; a person who wrote YAML wants all of them, in
their own. So documents are converted by msgspec, and looked through here only once it has refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from msgspec import inspect

from penstock.errors import Fault

__all__ = ["faults", "meant", "shown", "step"]

LONGEST_SHOWN: Final = 40


def faults(value: object, kind: type, *, at: str = "") -> list[Fault]:
    """Give everything that keeps `value`, made of plain dicts, lists and scalars, from becoming a `kind`.

    Args:
        value: the document.
        kind: a msgspec Struct.
        at: the JSON Pointer of the document, with which the pointers of its faults begin.
    """
    return list(_look(value, _shape(kind), at))


def step(at: str, key: str | int) -> str:
    """Give the JSON Pointer (RFC 6901) of what `key` names inside of the thing at `at`."""
    return f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"


def meant(word: str, known: Iterable[str]) -> str:
    """Give "; did you mean 'x'?" when one of the known words is close to `word`, else nothing."""
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word[:LONGEST_SHOWN].lower(), folded, n=1)
    return f"; did you mean '{folded[close[0]]}'?" if close else ""


def shown(value: object) -> str:
    """Give a value as one would name it to somebody: the text 'abc', the number 5, a list."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {_quoted(value)}"
        case Mapping():
            return "a mapping"
        case _:
            return "a list"


@lru_cache(maxsize=64)
def _shape(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…")


def _look(value: object, kind: inspect.Type, at: str, expected: str = "") -> Iterator[Fault]:
    match kind:
        case inspect.Metadata():
            yield from _look(value, kind.type, at, (kind.extra or {}).get("expected", expected))
        case inspect.StructType():
            yield from _look_at_keys(value, kind, at)
        case inspect.UnionType():
            yield from _look_at_choice(value, kind, at)
        case inspect.DictType():
            yield from _look_at_entries(value, kind, at)
        case inspect.VarTupleType() | inspect.ListType():
            yield from _look_at_items(value, kind, at)
        case _:
            if refusal := _refusal(value, kind, expected):
                yield Fault(at, refusal)


def _look_at_keys(value: object, kind: inspect.StructType, at: str) -> Iterator[Fault]:
    if not isinstance(value, Mapping):
        yield Fault(at, f"expected a mapping, got {shown(value)}")
        return
    known = {field.encode_name: field for field in kind.fields}
    for key, inner in value.items():
        if field := known.get(key):
            yield from _look(inner, field.type, step(at, key))
        elif key != kind.tag_field:
            yield Fault(step(at, key), f"unknown key {_quoted(key)}{_meant_key(key, known)}")
    for key, field in known.items():
        if field.required and key not in value:
            yield Fault(at, f"the key '{key}' is missing")


def _meant_key(key: str, known: Mapping[str, inspect.Field]) -> str:
    for section, field in known.items():
        inner = field.type
        while isinstance(inner, inspect.Metadata):
            inner = inner.type
        if isinstance(inner, inspect.StructType) and any(key == deeper.encode_name for deeper in inner.fields):
            return f"; did you mean '{section}.{key}'?"
    return meant(key, known)


def _look_at_choice(value: object, kind: inspect.UnionType, at: str) -> Iterator[Fault]:
    """Look at a value that may be nothing, or one of several Structs told apart by their tag."""
    if value is None and kind.includes_none:
        return
    choices = [choice for choice in kind.types if not isinstance(choice, inspect.NoneType)]
    if len(choices) == 1:
        yield from _look(value, choices[0], at)
        return
    structs = {str(choice.tag): choice for choice in choices if isinstance(choice, inspect.StructType)}
    tag_field = next(iter(structs.values())).tag_field if structs else None
    if tag_field is None:
        return
    if not isinstance(value, Mapping):
        yield Fault(at, f"expected a mapping, got {shown(value)}")
    elif tag_field not in value:
        yield Fault(at, f"the key '{tag_field}' is missing: one of {', '.join(structs)}")
    elif refusal := _not_among(value[tag_field], structs):
        yield Fault(step(at, tag_field), refusal)
    else:
        yield from _look_at_keys(value, structs[value[tag_field]], at)


def _look_at_entries(value: object, kind: inspect.DictType, at: str) -> Iterator[Fault]:
    if not isinstance(value, Mapping):
        yield Fault(at, f"expected a mapping, got {shown(value)}")
        return
    for key, inner in value.items():
        here = step(at, key)
        yield from (Fault(here, f"as a key, {fault.message}") for fault in _look(key, kind.key_type, here))
        yield from _look(inner, kind.value_type, here)


def _look_at_items(value: object, kind: inspect.VarTupleType | inspect.ListType, at: str) -> Iterator[Fault]:
    if not isinstance(value, list | tuple):
        yield Fault(at, f"expected a list, got {shown(value)}")
        return
    if len(value) < (kind.min_length or 0):
        yield Fault(at, f"expected at least {kind.min_length} in the list, got {len(value)}")
    for index, inner in enumerate(value):
        yield from _look(inner, kind.item_type, step(at, index))


def _refusal(value: object, kind: inspect.Type, expected: str) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    refusal = None
    match kind:
        case inspect.IntType():
            whole = number and isinstance(value, int)
            refusal = _out_of_bounds(value, kind) if whole else f"expected a whole number, got {shown(value)}"
        case inspect.FloatType():
            refusal = _out_of_bounds(value, kind) if number else f"expected a number, got {shown(value)}"
        case inspect.BoolType():
            refusal = None if isinstance(value, bool) else f"expected true or false, got {shown(value)}"
        case inspect.StrType():
            refusal = _unfit(value, kind, expected)
        case inspect.EnumType():
            refusal = _not_among(value, [member.value for member in kind.cls])
        case inspect.LiteralType():
            refusal = _not_among(value, kind.values)
        case _:
            pass
    return refusal


def _out_of_bounds(value: Any, kind: inspect.IntType | inspect.FloatType) -> str | None:
    if kind.gt is not None and not value > kind.gt:
        return f"must be more than {kind.gt:g}, got {value}"
    if kind.ge is not None and not value >= kind.ge:
        return f"must be at least {kind.ge:g}, got {value}"
    if kind.le is not None and not value <= kind.le:
        return f"must be at most {kind.le:g}, got {value}"
    return None


def _unfit(value: object, kind: inspect.StrType, expected: str) -> str | None:
    if not isinstance(value, str):
        quotes = "; put it in quotes" if isinstance(value, int | float) else ""
        return f"expected text, got {shown(value)}{quotes}"
    fits = (
        (kind.min_length is None or len(value) >= kind.min_length)
        and (kind.max_length is None or len(value) <= kind.max_length)
        and (kind.pattern is None or re.search(kind.pattern, value))
    )
    if fits:
        return None
    limit = f"text of at most {kind.max_length} letters" if kind.max_length else "text"
    return f"expected {expected or limit}, got {shown(value) if value else 'empty text'}"


def _not_among(value: object, choices: Collection[object]) -> str | None:
    if isinstance(value, str | int) and value in choices:
        return None
    words = [str(choice) for choice in choices if choice != ""]
    hint = meant(value, words) if isinstance(value, str) else ""
    wanted = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    return f"expected {wanted}, got {shown(value)}{hint}"
