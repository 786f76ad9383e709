"""`python -m bench [ROW ...]`: measure all rows, or those named; print one table, write bench/results/latest.json."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from .table import Row, keep, show

ROWS = ("accept", "hit", "idle_sync", "complete", "drain", "waiters", "idle_worker", "cold_start", "kill", "million")


def main() -> int:
    """Measure, print, keep; a missed bar is told by the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of: {' '.join(ROWS)}")
    asked = parser.parse_args().rows or ROWS
    rows: list[Row] = []
    for name in asked:
        print(f"measuring {name} ...", file=sys.stderr)
        for row in import_module(f"bench.rows.{name}").measure():
            rows.append(row)
            print(f"  {row.work}: {row.figure:,.4g} {row.unit}", file=sys.stderr)
    show(rows)
    print(f"written to {keep(rows, Path(__file__).with_name('results'))}", file=sys.stderr)
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
