"""The queue port: wake-up credits for those who wait for work."""

from ._open import open_queue
from ._queue import Observe, Queue, queue_name
from .driver import Driver, Features, Message

__all__ = ["Driver", "Features", "Message", "Observe", "Queue", "open_queue", "queue_name"]
