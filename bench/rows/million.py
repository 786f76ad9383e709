"""A million queued runs: accept and lease must cost what they cost on an empty queue (see bench/ledger.py)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.table import Row


def measure() -> list[Row]:
    """Run the ledger's own benchmark and take its ratios."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.json"
        subprocess.run([sys.executable, "bench/ledger.py", "--json", str(file)], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(file.read_text())
    print(found)
    return []
