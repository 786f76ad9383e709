"""Lets these tests share `sources`, which reads the product as they do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
