"""JSON whose numbers stay as they are spelled: 12.50 is sent, exported and shown as 12.50, and not as 12.5.

As floating-point numbers, some would become others: 0.1000000000000000055, or a number with twenty digits.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

# Python, for one, reads no number with more digits.
_NUMBER_CHARACTERS = 4_300

_string = json.encoder.encode_basestring


class Number(str):
    """A JSON number as it is spelled."""

    __slots__ = ()

    @property
    def is_too_large(self) -> bool:
        """Whether it is a number that no computer reads, such as 1e400."""
        return len(self) > _NUMBER_CHARACTERS or math.isinf(float(self))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a value in JSON")


Pairs = Callable[[list[tuple[str, Any]]], Any]


def decoder(object_pairs_hook: Pairs | None = None) -> json.JSONDecoder:
    """Return what decodes a document with its numbers as Number."""
    return json.JSONDecoder(
        object_pairs_hook=object_pairs_hook,
        parse_int=Number,
        parse_float=Number,
        parse_constant=_no_constant,
    )


_decoder = decoder()


def read(text: str) -> Any:
    """Return the value of a JSON document. Raises ValueError."""
    return _decoder.decode(text)


def write(value: Any) -> str:
    """Return a value as compact JSON. Raises TypeError, ValueError and RecursionError."""
    if isinstance(value, str):
        return value if isinstance(value, Number) else _string(value)
    if isinstance(value, Mapping):
        members = [f"{_string(name)}:{write(member)}" for name, member in value.items()]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([write(item) for item in value]) + "]"
    return json.dumps(value, allow_nan=False)


def as_text(value: Any) -> str:
    """Return text as it is, and of anything else the JSON."""
    return value if isinstance(value, str) else write(value)


def plain(value: Any) -> Any:
    """Return a value with its numbers as Python's."""
    if isinstance(value, Number):
        return json.loads(value)
    if isinstance(value, Mapping):
        return {name: plain(member) for name, member in value.items()}
    return list(map(plain, value)) if isinstance(value, list) else value
