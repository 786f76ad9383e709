"""The version of this distribution, and nothing else: `penstock version` reads it without importing more."""

__version__ = "0.1.0"
