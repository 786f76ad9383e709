"""Writes the parts of the docs that the code itself can tell: `python docs/generate.py`; a test holds them equal.

Such a part stands between `<!-- begin: NAME -->` and `<!-- end -->`, with NAME among the parts below.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints, is_typeddict

import click
import msgspec

from penstock.model import app as app_spec
from penstock.model.candidate import KubernetesCandidate, Placement, PoolCandidate, VmCandidate
from penstock.model.fleet import WorkerState
from penstock.model.placement import Code, Phase
from penstock.model.run import AttemptState, Reason, State
from penstock.run.settings import Settings

__all__ = ["PARTS", "written"]

DOCS: Final = Path(__file__).parent
_PART: Final = re.compile(r"(<!-- begin: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_REMARK: Final = re.compile(r"^\s+(?P<name>\w+)\b[^#\n]*=[^#\n]*?(?:#\s*(?P<remark>.*))?$", re.MULTILINE)


def written(text: str) -> str:
    """Give a page with its generated parts as the code has them now. Raises KeyError for a part that nobody makes."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part['name']]()}{part[3]}", text)


def main() -> int:
    """Rewrite every page; gives 1 if one changed and `--check` was asked for."""
    changed = []
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text()
        after = written(before)
        if after != before:
            changed.append(path)
            if "--check" not in sys.argv:
                path.write_text(after)
    for path in changed:
        print(path.relative_to(DOCS.parent))
    return int(bool(changed) and "--check" in sys.argv)


def _table(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in lines)


# ------------------------------------------------------------------ words with a remark beside them


def _remarks(kind: type) -> dict[str, str]:
    """Give the comment that stands beside each member of an enum or field of a record."""
    return {found["name"]: found["remark"] or "" for found in _REMARK.finditer(inspect.getsource(kind))}


def _words(kind: type[StrEnum], meanings: str = "meaning") -> Callable[[], str]:
    def part() -> str:
        remarks = _remarks(kind)
        return _table(["word", meanings], [[f"`{member.value}`", remarks[member.name]] for member in kind])

    return part


# ------------------------------------------------------------------ records


def _fields(kind: type[msgspec.Struct], at: str = "") -> Iterator[tuple[str, Any, str]]:
    """Give path, default and description of every field of a spec's section, and of the sections within."""
    hints = get_type_hints(kind, include_extras=True)
    for name, spelled in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        hint = hints[name]
        section = _section(hint)
        path = f"{at}{spelled}"
        default = _default(kind, name)
        yield path, default, _description(hint)
        if section is not None and section not in _NOT_OPENED:
            yield from _fields(section, f"{path}.")


def _section(hint: Any) -> type[msgspec.Struct] | None:
    """Give the Struct that a field holds, or None for a plain value or a list."""
    kinds = [hint] if isinstance(hint, type) else list(get_args(hint))
    if get_origin(hint) in {tuple, dict, list}:
        return None
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return kind
        if not isinstance(kind, type) and (inner := _section(kind)) is not None:
            return inner
    return None


def _description(hint: Any) -> str:
    for part in get_args(hint):
        if isinstance(part, msgspec.Meta) and part.description:
            return part.description
    return ""


def _default(kind: type[msgspec.Struct], name: str) -> Any:
    (field,) = [field for field in msgspec.structs.fields(kind) if field.name == name]
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else msgspec.NODEFAULT


def _shown(default: Any) -> str:
    match default:
        case msgspec.NODEFAULT:
            return "required"
        case None | "" | () | msgspec.Struct():
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case dict() if not default:
            return ""
        case float():
            return f"`{default:g}`" if default < 1e6 else f"`{int(default)}`"
        case _:
            return f"`{default}`"


_NOT_OPENED: Final = (Placement, app_spec.Server)


def _of_record(kind: type[msgspec.Struct], at: str = "") -> Callable[[], str]:
    def part() -> str:
        rows = ([f"`{path}`", _shown(default), text] for path, default, text in _fields(kind, at))
        return _table(["field", "default", "meaning"], rows)

    return part


def _settings() -> str:
    remarks = _remarks(Settings)
    rows = [
        [f"`{name}`", f"`PENSTOCK__{name.upper()}`", _shown(_default(Settings, name)), remarks.get(name, "")]
        for name in Settings.__struct_fields__
    ]
    return _table(["setting", "in the environment", "default", "meaning"], rows)


# ------------------------------------------------------------------ classes


def _handler() -> str:
    from penstock.worker.current import CurrentRun, current_run, current_runs
    from penstock.worker.handler import Handler, InvalidInput, Response, Retry

    told = [_class(kind) for kind in (Handler, Response, InvalidInput, Retry, CurrentRun)]
    return "\n".join([*told, *(_callable("## ", function) for function in (current_run, current_runs))])


_FOR_THE_LOOP: Final = {"CurrentRun.cancel", "CurrentRun.stop"}


def _client() -> str:
    from penstock.client import Answer, Apps, Client, Patience, RunCancelled, RunFailed, Ticket, Unfinished, Unreachable

    kinds = (Client, Apps, Ticket, Answer, Patience, RunFailed, RunCancelled, Unfinished, Unreachable)
    return "\n".join(_class(kind) for kind in kinds)


def _class(kind: type) -> str:
    members = [
        _callable("### ", member)
        for name, member in vars(kind).items()
        if not name.startswith("_")
        and name not in _FOR_THE_LOOP
        and (inspect.isfunction(member) or isinstance(member, property))
    ]
    return "\n".join([f"## `{kind.__name__}`\n\n{_prose(kind)}", *_held(kind), *members])


def _held(kind: type) -> Iterator[str]:
    """Give the fields of a record, one a line."""
    if issubclass(kind, msgspec.Struct) or is_typeddict(kind):
        annotations = inspect.get_annotations(kind)
        yield "".join(f"* `{name}: {annotation}`\n" for name, annotation in annotations.items())


def _callable(mark: str, member: Any) -> str:
    if isinstance(member, property):
        assert member.fget is not None
        return f"{mark}`{member.fget.__name__}`\n\n{_prose(member)}"
    return f"{mark}`{member.__name__}{_signature(member)}`\n\n{_prose(member)}"


def _signature(function: Callable[..., Any]) -> str:
    shown = inspect.signature(function)
    given, named = [], False
    for part in shown.parameters.values():
        if part.kind is part.KEYWORD_ONLY and not named:
            given.append("*")
            named = True
        if part.name != "self":
            given.append(_parameter(part))
    return f"({', '.join(given)}) -> {shown.return_annotation}"


def _parameter(part: inspect.Parameter) -> str:
    stars = {part.VAR_POSITIONAL: "*", part.VAR_KEYWORD: "**"}.get(part.kind, "")
    default = "" if part.default is part.empty else f" = {part.default!r}"
    return f"{stars}{part.name}: {part.annotation}{default}"


def _prose(thing: Any) -> str:
    """Give a docstring as Markdown: a section's lines become a list."""
    lines = []
    for line in inspect.cleandoc(thing.__doc__ or "").splitlines():
        if re.fullmatch(r"(Args|Attributes|Raises|Returns):", line):
            lines += [f"*{line.removesuffix(':')}*", ""]
        elif line.startswith("    ") and not line.startswith("     "):
            lines.append(f"* {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------ doors


def _routes() -> str:
    from penstock.gateway.routes import ENDPOINTS

    told = []
    for tag in dict.fromkeys(endpoint.tag for endpoint in ENDPOINTS):
        rows = [
            [f"`{endpoint.method} {endpoint.path}`", endpoint.summary, endpoint.scope]
            for endpoint in ENDPOINTS
            if endpoint.tag == tag
        ]
        told.append(f"### {tag}\n\n{_table(['route', 'what it does', 'scope'], rows)}")
    return "\n".join(told)


def _commands() -> str:
    from penstock.run.program import program

    root = program()
    told = []
    with click.Context(root, info_name="penstock") as context:
        for heading, verbs in root.sections.items():
            told.append(f"## {heading}\n")
            told += [_command(root.get_command(context, name), name, context) for name in verbs]
    return "\n".join(told)


def _command(command: click.Command | None, name: str, parent: click.Context) -> str:
    assert command is not None, name
    with click.Context(command, info_name=name, parent=parent) as context:
        usage = f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}".rstrip()
        told = [f"### `{context.command_path}`\n\n{_help(command)}\n\n```text\n{usage}\n```\n"]
        options = [_option(param, context) for param in command.params if _own(param)]
        if options:
            told.append(_table(["option", "means"], options))
        if isinstance(command, click.Group):
            inner = command.list_commands(context)
            told += [_command(command.get_command(context, verb), verb, context) for verb in inner]
    return "\n".join(told)


def _help(command: click.Command) -> str:
    """Give a command's help; what click must not wrap becomes a block."""
    parts = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        f"```text\n{part.partition(chr(10))[2]}\n```" if part.startswith(("\b\n", "\\b\n")) else part for part in parts
    )


def _own(param: click.Parameter) -> bool:
    """Tell whether an option is the verb's own; those that name the server are told once, above."""
    return isinstance(param, click.Option) and not param.hidden and type(param).__name__ != "ConnectionOption"


def _option(param: click.Parameter, context: click.Context) -> list[str]:
    names, text = param.get_help_record(context) or ("", "")
    return [f"`{names}`", text]


PARTS: Final[dict[str, Callable[[], str]]] = {
    "states": _words(State),
    "reasons": _words(Reason),
    "attempt-states": _words(AttemptState),
    "worker-states": _words(WorkerState),
    "phases": _words(Phase),
    "codes": _words(Code),
    "spec": _of_record(app_spec.Spec),
    "server": _of_record(app_spec.Server, "worker.server."),
    "candidate-kubernetes": _of_record(KubernetesCandidate),
    "candidate-vm": _of_record(VmCandidate),
    "candidate-pool": _of_record(PoolCandidate),
    "settings": _settings,
    "handler": _handler,
    "client": _client,
    "routes": _routes,
    "commands": _commands,
}

if __name__ == "__main__":
    raise SystemExit(main())
