"""`config`: which servers there are, and which one is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from penstock.cli import contexts
from penstock.cli.command import translated
from penstock.cli.contexts import Context, Contexts
from penstock.cli.output import Format, as_json, as_yaml, output_option, rows
from penstock.cli.session import Session, say

__all__ = ["config"]

_MASK: Final = "***"


class _Group(click.Group):
    """The verbs about contexts; what is refused becomes an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Call the verb."""
        return translated(lambda: super(_Group, self).invoke(ctx))


@click.group(cls=_Group)
def config() -> None:
    """Choose among servers: a context is a server's address and the credential for it.

    Contexts are kept in ~/.config/penstock/config.yaml, readable by you only.
    """


def _file(session: Session) -> Path:
    return contexts.config_file(session.environ)


def _change(session: Session, change: Callable[[Contexts], Contexts]) -> Contexts:
    path = _file(session)
    changed = change(contexts.read(path))
    contexts.write(path, changed)
    return changed


@config.command()
@click.argument("name")
@click.option("--api", metavar="URL", help="The server's address.")
@click.option("--api-key", metavar="KEY", help="The API key itself; --api-key-env keeps it out of the file.")
@click.option("--api-key-env", metavar="VARIABLE", help="The variable that holds the API key.")
@click.option("--token", metavar="TOKEN", help="The token (JWT).")
@click.pass_obj
def set_context(session: Session, /, name: str, **given: str | None) -> None:
    """Make a context, or change what is given of one. The first one made is used at once."""
    fields = {key: value for key, value in given.items() if value is not None}
    if "api_key" in fields and "api_key_env" in fields:
        raise click.UsageError("Give --api-key or --api-key-env, not both.")
    if "api_key" in fields:
        fields["api_key_env"] = ""
    elif "api_key_env" in fields:
        fields["api_key"] = ""

    def change(known: Contexts) -> Contexts:
        present = known.contexts.get(name)
        if present is None and "api" not in fields:
            raise click.UsageError("A new context needs --api URL.")
        context = msgspec.structs.replace(present or Context(api=""), **fields)
        current = known.current_context or name
        return Contexts(current_context=current, contexts={**known.contexts, name: context})

    changed = _change(session, change)
    current = " (in use)" if changed.current_context == name else f"; use it: penstock config use-context {name}"
    say(f"context {name} is {changed.contexts[name].api}{current}")


@config.command()
@click.argument("name")
@click.pass_obj
def use_context(session: Session, name: str) -> None:
    """Use a context from now on."""

    def change(known: Contexts) -> Contexts:
        known.get(name)
        return msgspec.structs.replace(known, current_context=name)

    say(f"now asking {_change(session, change).contexts[name].api} (context {name})")


@config.command()
@output_option(Format.TABLE, Format.NAME)
@click.pass_obj
def get_contexts(session: Session, form: Format) -> None:
    """List the contexts; the one in use has a star."""
    known = contexts.read(_file(session))
    if not known.contexts:
        say("There are no contexts yet. Make one: penstock config set-context NAME --api URL")
        return
    if form is Format.NAME:
        lines = sorted(known.contexts)
    else:
        cells = [
            ["*" if name == known.current_context else "", name, context.api, _credential(context)]
            for name, context in sorted(known.contexts.items())
        ]
        lines = rows(["CURRENT", "NAME", "API", "CREDENTIAL"], cells)
    for line in lines:
        click.echo(line)


def _credential(context: Context) -> str:
    if context.api_key_env:
        return f"key in {context.api_key_env}"
    return "key" if context.api_key else "token" if context.token else "none"


@config.command()
@click.pass_obj
def current_context(session: Session) -> None:
    """Print the context in use. Exit code 1 if there is none."""
    known = contexts.read(_file(session))
    if not known.current_context:
        say("No context is in use. Choose one: penstock config use-context NAME")
        raise click.exceptions.Exit(1)
    click.echo(known.current_context)


@config.command()
@click.argument("name")
@click.pass_obj
def delete_context(session: Session, name: str) -> None:
    """Forget a context and its credential."""

    def change(known: Contexts) -> Contexts:
        known.get(name)
        kept = {key: context for key, context in known.contexts.items() if key != name}
        current = known.current_context if known.current_context in kept else ""
        return Contexts(current_context=current, contexts=kept)

    _change(session, change)
    say(f"context {name} is forgotten")


@config.command()
@click.option("--raw", is_flag=True, help="Show credentials too.")
@output_option(Format.YAML, Format.JSON)
@click.pass_obj
def view(session: Session, raw: bool, form: Format) -> None:
    """Print the contexts; credentials are masked unless --raw. Which server would be asked is told too."""
    known = contexts.read(_file(session))
    if not raw:
        known = msgspec.structs.replace(known, contexts={name: _masked(one) for name, one in known.contexts.items()})
    click.echo(as_json(known) if form is Format.JSON else as_yaml(known), nl=form is Format.JSON)
    api, named_by = session.address()
    say(f"asking {api} ({named_by}); contexts are in {_file(session)}")


def _masked(context: Context) -> Context:
    return msgspec.structs.replace(
        context, api_key=_MASK if context.api_key else "", token=_MASK if context.token else ""
    )
