"""Azure's own pretend storage, azurite, where npm has installed it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from penstock.testing.process import HOST, ServerProcess

__all__ = ["AZURE_ACCOUNT", "AZURE_KEY", "azurite", "installed_azurite"]

# Published by Microsoft: every azurite has them.
AZURE_ACCOUNT: Final = "devstoreaccount1"
AZURE_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def installed_azurite(cache: Path) -> Path | None:
    """Give azurite's program, from the path or from `npm install --prefix {cache}/azurite azurite`."""
    here = cache / "azurite/node_modules/.bin/azurite-blob"
    found = shutil.which("azurite-blob")
    return here if here.exists() else Path(found) if found else None


def azurite(program: Path, log: Path) -> ServerProcess:
    """Give the server, not started yet; it forgets everything when it stops."""
    return ServerProcess(
        lambda port: [program, "--blobHost", HOST, "--blobPort", str(port), "--inMemoryPersistence", "--silent"],
        log=log,
    )
