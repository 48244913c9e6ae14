"""What a benchmark returns: a number, and the limit that it must keep."""

from typing import TypedDict


class Row(TypedDict):
    """One measured number. limit: None where the number is only reported."""

    name: str
    value: float
    unit: str
    limit: float | None
    ok: bool
