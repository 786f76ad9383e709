"""Lets tests import the examples as their workers do: from their own folder."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES / name) for name in ("echo", "digits", "segmentation")]
