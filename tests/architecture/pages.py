"""The documentation, as the tests of its truth look at it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sources import ROOT

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block: where it stands, its language, and whether it may be run as it is."""

    place: str  # "docs/tutorial/first-app.md:31"
    language: str
    marks: tuple[str, ...]
    text: str


def pages() -> list[Path]:
    """Give every page of the project."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def blocks(*languages: str) -> list[Block]:
    """Give the blocks of these languages on all pages."""
    return [block for page in pages() for block in _blocks(page) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        language, *marks = fence["info"].split() or [""]
        line = text.count("\n", 0, fence.start()) + 1
        yield Block(f"{page.relative_to(ROOT)}:{line}", language, tuple(marks), fence["text"])


def links() -> Iterator[tuple[Path, str]]:
    """Give every link that stands outside of code, with the page it stands on."""
    for page in pages():
        for link in _LINK.finditer(_FENCE.sub("", page.read_text())):
            yield page, link["target"]


def anchors(page: Path) -> set[str]:
    """Give the names that headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Iterator[tuple[str, str]]:
    """Give every command line of the pages' console blocks, with its place."""
    for block in blocks("console"):
        for line in block.text.splitlines():
            if line.startswith("$ "):
                yield block.place, line[2:].partition("  #")[0].strip()
