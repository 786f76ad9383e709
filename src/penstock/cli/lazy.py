"""The group whose verbs are imported when they are called: `penstock version` pays for nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

__all__ = ["LazyGroup", "Sections", "Verb"]


class Verb(NamedTuple):
    """Where a verb's command is (`module:attribute`), and the line that `--help` says of it without importing it."""

    target: str
    summary: str


Sections = Mapping[str, Mapping[str, Verb]]
"""Verbs by name, under the headings of the help page; under "" stand those that it does not show."""


class LazyGroup(click.Group):
    """A group of verbs given as a table. The table is all that `--help` reads."""

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.verbs = {name: verb for verbs in sections.values() for name, verb in verbs.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names of the verbs that are shown, in the order of the table."""
        del ctx
        return [name for heading, verbs in self.sections.items() if heading for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's command, or give None for a name that is no verb."""
        del ctx
        verb = self.verbs.get(cmd_name)
        return None if verb is None else _load(verb)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that is called; an unknown one is a usage error that names the nearest."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and name not in self.verbs:
            near = difflib.get_close_matches(name, self.verbs, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"There is no command '{name}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section's verbs with their summaries."""
        del ctx
        for heading, verbs in self.sections.items():
            if heading:
                with formatter.section(heading):
                    formatter.write_dl([(name, verb.summary) for name, verb in verbs.items()], col_max=16)


def _load(verb: Verb) -> click.Command:
    module, _, attribute = verb.target.partition(":")
    command = getattr(import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{verb.target} is no command")
    # In a raw docstring, as the linter wants it, click's mark for "don't wrap this" is two letters.
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    return command
