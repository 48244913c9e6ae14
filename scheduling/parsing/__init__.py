"""Lists as people send them: bytes in, checked IDs out, streaming and constant in memory. No Django in here.

`read_body` is the way in. What it returns, a Reading, holds the IDs in a Spool, the faults, and the warnings.
"""

from scheduling.parsing.body import FIELDS, read_body
from scheduling.parsing.reading import Reading
from scheduling.parsing.results import WARNINGS, Choice, Column, Fault, Fields, Limits, Sheet
from scheduling.parsing.spool import Spool

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
