"""`make demo` keeps its word: it ends with 0, tells of each kind of run, and leaves nothing running."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.live
@pytest.mark.timeout(150)
def test_the_demo_shows_what_it_says():
    done = subprocess.run(
        [sys.executable, ROOT / "examples/demo.py"], capture_output=True, text=True, check=False, timeout=140
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    assert [word for word in told if word != "trained"] == [
        *("started", "applied", "sync", "sync", "repeated", "async", "cancelled", "bad"),
        *("runs", "worker", "zero", "sync", "stopped"),
    ]
    assert "All as promised" in done.stdout
