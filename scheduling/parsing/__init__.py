"""Reads lists as people send them: bytes in, checked IDs out, streaming in constant memory. No Django in here.

Begin with `read_body`. It returns a Reading: the IDs in a Spool, the faults and the warnings.
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
