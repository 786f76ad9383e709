"""How many workers an app gets, where they start, and what is repaired: observe, plan (pure), act; and a maintainer."""

from .afar import Afar
from .controller import Controller
from .parts import Outfit, Parts
from .status import AppStatus

__all__ = ["Afar", "AppStatus", "Controller", "Outfit", "Parts"]
