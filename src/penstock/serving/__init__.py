"""The work: runs are taken in, handed to workers, settled, looked at. No HTTP and no vendor here."""

from .broker import Broker
from .catalog import Applied, Catalog, Entry
from .intake import Intake, Submission, Waiting
from .news import hear
from .notices import Notices
from .runs import Explanation, Runs, Standing, Step

__all__ = [
    "Applied",
    "Broker",
    "Catalog",
    "Entry",
    "Explanation",
    "Intake",
    "Notices",
    "Runs",
    "Standing",
    "Step",
    "Submission",
    "Waiting",
    "hear",
]
