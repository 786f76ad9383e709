"""`completion`: the script that teaches a shell the verbs, their options, and the names of apps."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print the completion script of a shell.

    \b
    bash: eval "$(penstock completion bash)"   in ~/.bashrc
    zsh:  eval "$(penstock completion zsh)"    in ~/.zshrc, after compinit
    fish: penstock completion fish > ~/.config/fish/completions/penstock.fish
    """
    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"This version of click knows no completion for {shell}.")
    root = ctx.find_root()
    click.echo(maker(root.command, {}, "penstock", "_PENSTOCK_COMPLETE").source())
