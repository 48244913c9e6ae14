"""What may stand in a cell of a CSV file. Pure: standard library only."""

import json
from collections.abc import Sequence
from typing import Any

from scheduling.core.templates import as_json

# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> Any:
    """A value as it may stand in a CSV cell; what has parts as JSON."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def data_cells(data: str | None, columns: Sequence[str]) -> list[str]:
    """Return the cells of an ID's data: text as it is, anything else as JSON, what is missing empty."""
    values = {} if data is None else json.loads(data)
    found = [values.get(name) for name in columns]
    return [value if isinstance(value, str) else "" if value is None else as_json(value) for value in found]
