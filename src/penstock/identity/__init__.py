"""Who is calling, and the proofs that Penstock itself hands out."""

from .claims import Principal, WorkerClaims
from .keyring import Keyring, open_keyring

__all__ = ["Keyring", "Principal", "WorkerClaims", "open_keyring"]
