"""What a cell of a CSV file may contain. Pure: standard library only."""

import json
from collections.abc import Sequence
from typing import Any

from scheduling.core import exact_json

# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> Any:
    """Return a value as a CSV cell may contain it; lists and objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def data_cells(data: str | None, columns: Sequence[str]) -> list[str]:
    """Return the cells of an ID's data: text as it is, anything else as JSON, what is missing empty."""
    values = {} if data is None else exact_json.read(data)
    cells = [values.get(name) for name in columns]
    # What is stored is always shown, even a number that no request can contain.
    return ["" if value is None else exact_json.as_text(value) for value in cells]
