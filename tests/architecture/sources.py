"""The product's own sources, as the tests of its shape look at them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/penstock"


class Function(NamedTuple):
    """A function or a method: where it stands, and how wide and long it is."""

    place: str  # "serving/intake.py:Intake.accept"
    lines: int
    parameters: int


@cache
def modules() -> dict[str, ast.Module]:
    """Give each file of the package, by its path within it, parsed."""
    paths = sorted(SOURCE.rglob("*.py"))
    return {str(path.relative_to(SOURCE)): ast.parse(path.read_text(), str(path)) for path in paths}


@cache
def functions() -> tuple[Function, ...]:
    """Give every function of the package, nested ones too."""
    return tuple(function for name, tree in modules().items() for function in _functions(tree, f"{name}:"))


def _functions(node: ast.AST, place: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(place + child.name, _lines(child), _parameters(child.args))
            yield from _functions(child, f"{place}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{place}{child.name}.")
        else:
            yield from _functions(child, place)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Give the lines of its body: the docstring is the contract, and a long contract is no long thought."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


def _parameters(given: ast.arguments) -> int:
    names = [parameter.arg for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def classes() -> Iterator[tuple[str, str]]:
    """Give the file and name of every class."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield name, node.name


@cache
def project() -> dict[str, Any]:
    """Give pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def layers() -> list[list[str]]:
    """Give the layers that the linter checks, top to bottom; siblings stand in one row."""
    contracts = project()["tool"]["importlinter"]["contracts"]
    (drawn,) = [contract for contract in contracts if contract["type"] == "layers" and contract.get("exhaustive")]
    return [[name.strip() for name in row.split("|")] for row in drawn["layers"]]
