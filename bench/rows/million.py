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
        found = {(row["work"], row["group"]): row for row in json.loads(file.read_text())}
    return [_ratio(found, "accept", 16), _ratio(found, "lease + settle", 64)]


def _ratio(found: dict[tuple[str, int], dict[str, float]], work: str, group: int) -> Row:
    empty = found[f"{work}, empty", group]
    full = next(row for (name, size), row in found.items() if size == group and name.startswith(f"{work}, 1,000,000"))
    note = f"groups of {group}: {full['p50_ms']:.2f} ms, empty {empty['p50_ms']:.2f} ms"
    return Row(
        f"{work} latency with 1 M queued", full["p50_ms"] / empty["p50_ms"], "x empty", 1.5, least=False, note=note
    )
