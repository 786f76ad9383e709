"""YAML text into plain values, each with its place in the text.

The text may come from anybody, so values are built from the parser's events, one by one, without recursion
and without tags that construct anything; what grows is counted as it grows.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, NamedTuple

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from penstock.errors import SpecFault
from penstock.model.shape import shown, step

__all__ = ["MAX_ALIASES", "MAX_DEPTH", "MAX_NODES", "MAX_TEXT", "Document", "Mark", "plain_scalar", "read"]

MAX_TEXT: Final = 1024 * 1024  # characters
MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000  # in the whole text, with aliases written out
MAX_ALIASES: Final = 64  # in the whole text

TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})
UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
UNKEEPABLE: Final = re.compile("[\0\ud800-\udfff]")  # no environment, no JSON and no database takes them
LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class Mark(NamedTuple):
    """A place in a text; both numbers count from 1."""

    line: int
    column: int


class Document(msgspec.Struct, frozen=True):
    """One YAML document.

    Attributes:
        value: dicts with text keys, lists, text, numbers, booleans and None.
        marks: the place of every key and list item, by JSON Pointer.
    """

    value: Any
    marks: dict[str, Mark]

    def mark(self, pointer: str) -> Mark:
        """Give the place of what the pointer names, or of the nearest thing around it."""
        while pointer not in self.marks:
            pointer = pointer.rpartition("/")[0]
        return self.marks[pointer]


def read(text: str, source: str) -> tuple[list[Document], list[SpecFault]]:
    """Give the documents of a text, without the empty ones, and all that is wrong with it as YAML.

    A fault of syntax, or a limit passed, ends the reading.
    """
    reader = _Reader(source)
    try:
        _refuse_text(text)
        for event in YAML(typ="safe", pure=True).parse(text):
            reader.take(event)
    except _Refusal as refusal:
        reader.fault(refusal.message, refusal.mark, refusal.pointer)
    except MarkedYAMLError as error:
        reader.fault(*_syntax(error, text))
    except YAMLError as error:
        reader.fault(f"this is no YAML: {error}", reader.reached)
    except (ValueError, OverflowError):
        # The scanner hands the number of an escaped character to chr() as it is.
        reader.fault("an escape after this place names no character", reader.reached)
    return reader.documents, reader.faults


def _refuse_text(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise _Refusal(f"the text is longer than {MAX_TEXT} characters", Mark(1, 1))
    if odd := UNPRINTABLE.search(text):
        lines = LINE_BREAK.split(text[: odd.start()])
        message = f"the character U+{ord(odd[0]):04X} is not allowed in YAML"
        raise _Refusal(message, Mark(len(lines), len(lines[-1]) + 1))


class _Refusal(Exception):
    """Stop reading here."""

    def __init__(self, message: str, mark: Mark, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.pointer = pointer


class _Anchored(NamedTuple):
    value: Any
    nodes: int
    height: int


class _Open:
    """A mapping or a list whose end has not been seen yet."""

    def __init__(self, value: dict[str, Any] | list[Any], pointer: str, anchor: str | None) -> None:
        self.value = value
        self.pointer = pointer
        self.anchor = anchor
        self.nodes = 1
        self.height = 1
        self.key: str | None = None  # of a mapping: the one whose value comes next
        self.merging = False  # that key is a bare `<<`
        self.merged: list[Any] = []  # the values of `<<`


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.documents: list[Document] = []
        self.faults: list[SpecFault] = []
        self.reached = Mark(1, 1)
        self._open: list[_Open] = []
        self._marks: dict[str, Mark] = {}
        self._anchors: dict[str, _Anchored] = {}
        self._nodes = 0
        self._aliases = 0

    def fault(self, message: str, mark: Mark, pointer: str = "") -> None:
        self.faults.append(
            SpecFault(message=message, pointer=pointer, source=self.source, line=mark.line, column=mark.column)
        )

    def take(self, event: Event) -> None:
        match event:
            case DocumentStartEvent():
                self._marks, self._anchors = {}, {}
            case MappingEndEvent() | SequenceEndEvent():
                self._close()
            case NodeEvent():
                self.reached = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
                self._node(event, self.reached)
            case _:
                pass

    def _node(self, event: NodeEvent, mark: Mark) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            self._key(event, mark, top)
            return
        pointer = self._place(top, mark)
        mark = self._marks[pointer]
        match event:
            case AliasEvent():
                self._put(top, self._recall(event.anchor, mark, pointer))
            case ScalarEvent():
                self._count(1, 1, mark, pointer)
                known = _Anchored(self._scalar(event, mark, pointer), 1, 1)
                if event.anchor:
                    self._anchors[event.anchor] = known
                self._put(top, known)
            case MappingStartEvent() | SequenceStartEvent():
                self._count(1, 1, mark, pointer)
                self._refuse_tag(event.tag, mark, pointer)
                self._open.append(_Open({} if isinstance(event, MappingStartEvent) else [], pointer, event.anchor))

    def _key(self, event: NodeEvent, mark: Mark, top: _Open) -> None:
        if not isinstance(event, ScalarEvent):
            raise _Refusal("a key must be text", mark, top.pointer)
        key = self._scalar(event, mark, top.pointer)
        if not isinstance(key, str):
            key = event.value
            self.fault(f"a key must be text: put {key[:40]!r} in quotes", mark, step(top.pointer, key))
        if key in top.value:
            first = self._marks[step(top.pointer, key)]
            message = f"the key '{key[:40]}' stands here a second time; it is on line {first.line} already"
            self.fault(message, mark, step(top.pointer, key))
        else:
            self._marks[step(top.pointer, key)] = mark
        top.key = key
        top.merging = key == "<<" and event.implicit[0]

    def _place(self, top: _Open | None, mark: Mark) -> str:
        """Give the pointer of the node that comes now."""
        if top is None:
            pointer = ""
        elif isinstance(top.value, list):
            pointer = step(top.pointer, len(top.value))
        else:
            return step(top.pointer, top.key or "")
        self._marks[pointer] = mark
        return pointer

    def _put(self, top: _Open | None, known: _Anchored) -> None:
        if top is None:
            if known.value is not None:
                self.documents.append(Document(known.value, self._marks))
            return
        top.nodes += known.nodes
        top.height = max(top.height, known.height + 1)
        if isinstance(top.value, list):
            top.value.append(known.value)
        elif top.merging:
            top.merged += known.value if isinstance(known.value, list) else [known.value]
            top.key = None
        else:
            top.value[top.key or ""] = known.value
            top.key = None

    def _close(self) -> None:
        done = self._open.pop()
        for merged in done.merged:
            if not (isinstance(merged, dict) and isinstance(done.value, dict)):
                mark = self._marks[step(done.pointer, "<<")]
                raise _Refusal(f"'<<' takes in a mapping, got {shown(merged)}", mark, done.pointer)
            for key, value in merged.items():
                done.value.setdefault(key, value)
        known = _Anchored(done.value, done.nodes, done.height)
        if done.anchor:
            self._anchors[done.anchor] = known
        self._put(self._open[-1] if self._open else None, known)

    def _recall(self, anchor: str, mark: Mark, pointer: str) -> _Anchored:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise _Refusal(f"more than {MAX_ALIASES} aliases", mark, pointer)
        if any(anchor == container.anchor for container in self._open):
            raise _Refusal(f"the alias *{anchor} stands inside of what it names", mark, pointer)
        if anchor not in self._anchors:
            raise _Refusal(f"the alias *{anchor} names nothing above it", mark, pointer)
        known = self._anchors[anchor]
        self._count(known.nodes, known.height, mark, pointer)
        return known

    def _count(self, nodes: int, height: int, mark: Mark, pointer: str) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _Refusal(f"more than {MAX_NODES} values", mark, pointer)
        if len(self._open) + height > MAX_DEPTH:
            raise _Refusal(f"nested deeper than {MAX_DEPTH} levels", mark, pointer)

    def _scalar(self, event: ScalarEvent, mark: Mark, pointer: str) -> Any:
        if UNKEEPABLE.search(event.value):
            self.fault("the text holds a character that can't be kept (NUL or half of a pair)", mark, pointer)
            return ""
        if not event.implicit[0]:
            if not event.implicit[1]:
                self._refuse_tag(event.tag, mark, pointer)
            return event.value
        try:
            return plain_scalar(event.value)
        except ValueError as error:
            self.fault(str(error), mark, pointer)
            return 0

    def _refuse_tag(self, tag: Any, mark: Mark, pointer: str) -> None:
        if tag is not None and str(tag) not in TEXT_TAGS:
            self.fault(f"the tag {str(tag)[:40]} is not allowed", mark, pointer)


NOTHING: Final = frozenset({"", "~", "null", "Null", "NULL"})
TRUTH: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DECIMAL: Final = re.compile(r"[-+]?[0-9]+")
OCTAL: Final = re.compile(r"0o[0-7]+")
HEXADECIMAL: Final = re.compile(r"0x[0-9a-fA-F]+")
FRACTION: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
LONGEST_NUMBER: Final = 400  # digits; far more than a float tells apart


def plain_scalar(text: str) -> str | int | float | bool | None:
    """Give what unquoted text stands for in YAML 1.2's core schema, which knows no yes, no, dates or sexagesimals.

    Raises:
        ValueError: a number that JSON can't carry: infinite, not a number, or beyond 64 bits.
    """
    if text in NOTHING:
        return None
    if text in TRUTH:
        return TRUTH[text]
    if NOT_FINITE.fullmatch(text):
        raise ValueError(f"the number {text} is not finite")
    return _number(text)


def _number(text: str) -> str | int | float:
    for pattern, base in ((DECIMAL, 10), (OCTAL, 8), (HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            whole = int(text[2:] if base != 10 else text, base) if len(text) <= LONGEST_NUMBER else 1 << 64
            if -(1 << 63) <= whole < 1 << 63:
                return whole
            raise ValueError("the number is beyond 64 bits")
    if not FRACTION.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("the number is beyond 64 bits")
    return number


def _syntax(error: MarkedYAMLError, text: str) -> tuple[str, Mark]:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"this is no YAML: {error.problem}", Mark(1, 1)
    if text[mark.index : mark.index + 1] == "\t":
        return "a tab can't indent YAML; use spaces", Mark(mark.line + 1, mark.column + 1)
    return f"this is no YAML: {error.problem or error.context}", Mark(mark.line + 1, mark.column + 1)
