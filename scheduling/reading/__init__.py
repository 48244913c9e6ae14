"""Lists as people send them: bytes in, checked IDs out, streaming and constant in memory. No Django in here.

`read_body` is the way in. What it returns, a Reading, holds the IDs in a Spool, the faults, and the warnings.
"""

from scheduling.reading.body import FIELDS, read_body
from scheduling.reading.results import WARNINGS, Choice, Column, Fault, Fields, Limits, Reading, Sheet
from scheduling.reading.spool import Spool

__all__ = [
    "FIELDS",
    "WARNINGS",
    "Choice",
    "Column",
    "Fault",
    "Fields",
    "Limits",
    "Reading",
    "Sheet",
    "Spool",
    "read_body",
]
