"""An app's YAML: text into apps and back, and the schema that editors check it with."""

from .document import emit, schema
from .parsing import parse, resolve

__all__ = ["emit", "parse", "resolve", "schema"]
