"""The store port: large bodies and results, batch files, app specs."""

from ._open import open_store
from ._store import Observe, Patience, Store
from .driver import ALWAYS, Driver, Features, Info, Put, SignedUrl
from .signing import FILES, Permission, Signer

__all__ = [
    "ALWAYS",
    "FILES",
    "Driver",
    "Features",
    "Info",
    "Observe",
    "Patience",
    "Permission",
    "Put",
    "SignedUrl",
    "Signer",
    "Store",
    "open_store",
]
