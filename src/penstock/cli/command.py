"""How a verb is declared: a click command, perhaps asynchronous, with the options that every verb has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from penstock.errors import PenstockError

from .failure import Failure
from .session import Session

__all__ = ["INTERRUPTED", "Command", "connection_options", "translated", "verb"]

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


class ConnectionOption(click.Option):
    """An option that says which server is asked; it may stand before the verb or after it."""

    def __init__(self, name: str, text: str, metavar: str) -> None:
        super().__init__([name], help=text, metavar=metavar, expose_value=False, callback=_remember)


class Command(click.Command):
    """A verb that asks a server. Its function may be a coroutine; what Penstock refuses becomes an exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += connection_options()

    def invoke(self, ctx: click.Context) -> Any:
        """Call the function, to its end."""
        return translated(lambda: super(Command, self).invoke(ctx))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verb's own options, and after them those that all verbs have."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        own = [option for option in options if not isinstance(option, ConnectionOption)]
        shared = [option for option in options if isinstance(option, ConnectionOption)]
        for heading, params in (("Options", own), ("Connection", shared)):
            records = [record for param in params if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def verb(name: str | None = None, **kwargs: Any) -> Callable[[F], Command]:
    """Declare a verb that asks a server: its function gets the `Session` first, then its arguments and options."""

    def declare(function: F) -> Command:
        command: Command = click.command(name, cls=Command, **kwargs)(click.pass_obj(function))
        return command

    return declare


def connection_options() -> list[click.Parameter]:
    """Give the options that name the server and the credential."""
    return [
        ConnectionOption("--api", "The server's address.", "URL"),
        ConnectionOption("--api-key", "The API key to show.", "KEY"),
        ConnectionOption("--token", "The token (JWT) to show.", "TOKEN"),
        ConnectionOption("--context", "The context to use instead of the current one.", "NAME"),
    ]


def translated(work: Callable[[], Any]) -> Any:
    """Give what `work` gives, awaited if need be; a refusal becomes a `Failure`, Ctrl-C a quiet end."""
    try:
        done = work()
        if inspect.iscoroutine(done):
            import asyncio

            done = asyncio.run(done)
    except PenstockError as error:
        raise Failure(error) from error
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    return done


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    session = ctx.find_object(Session)
    if value is not None and session is not None and param.name is not None:
        session.options[param.name] = value
