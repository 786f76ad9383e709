"""What differs between two versions of an app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .app import App, pointer
from .shape import step

__all__ = ["FieldChange", "diff"]


class FieldChange(msgspec.Struct, frozen=True):
    """One field that is no longer what it was; None stands for a value that is absent."""

    pointer: str
    before: Any
    after: Any


def diff(old: App, new: App) -> tuple[FieldChange, ...]:
    """Give the fields that differ, in the order of the spec, with pointers into the normalised document.

    Lists of equal length are compared item by item, others as a whole.
    """
    return tuple(FieldChange(pointer(change.pointer), change.before, change.after) for change in _changes("", old, new))


def _changes(at: str, old: object, new: object) -> Iterator[FieldChange]:
    if old == new:
        return
    if isinstance(old, msgspec.Struct) and type(old) is type(new):
        for key, field in zip(old.__struct_encode_fields__, old.__struct_fields__, strict=True):
            yield from _changes(step(at, key), getattr(old, field), getattr(new, field))
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changes(step(at, key), old.get(key), new.get(key))
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changes(step(at, index), before, after)
    else:
        yield FieldChange(at, msgspec.to_builtins(old), msgspec.to_builtins(new))
