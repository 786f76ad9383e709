"""The program's root: the options before a verb, and the verbs of whoever assembles it."""

from __future__ import annotations

import click

from penstock._version import __version__

from .command import connection_options
from .lazy import LazyGroup, Sections

__all__ = ["assemble"]

_HELP = """A durable queue in front of GPUs.

Start everything on this machine with `penstock up`, apply an app with `penstock apply -f app.yaml`, and send it work
with `penstock submit APP -d '{...}'`. Each verb explains itself: penstock VERB --help.

Exit codes: 0 done, 1 failed, 2 written wrongly, 3 not found, 4 denied, 5 unreachable.
"""


def assemble(sections: Sections) -> LazyGroup:
    """Give the program's root command with these verbs. Its object must be a `Session`."""
    root = LazyGroup(
        name="penstock",
        sections=sections,
        help=_HELP,
        params=connection_options(),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        no_args_is_help=True,
    )
    return click.version_option(__version__, prog_name="penstock", message="%(prog)s %(version)s")(root)
