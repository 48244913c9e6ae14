"""Types of values: how each is read, and how the description shows it. Anything ambiguous is refused."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from api.paging import MAX_LIMIT
from scheduling.core import id_tokens, stopping
from scheduling.models import MAX_ID

_DIGITS = re.compile(r"[0-9]{1,30}")
# Keys of places end in 2089, and a list that starts at its time may take years.
LATEST = datetime(2060, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
# Of a filter that takes several.
MOST_VALUES = 1_000


def _whole_number(value: Any) -> Any:
    """Accept whole numbers and strings of digits, but not `true`, `5.0`, `+5` or `1_000`."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("It must be a whole number.")


def _time(value: Any) -> datetime:
    """Accept ISO 8601 with a time zone. A time without one could mean anything."""
    if not isinstance(value, str):
        raise ValueError("It must be a time such as 2026-11-25T12:00:00Z.")
    # A + that a client did not escape in a query arrives as a space.
    text = re.sub(r" (\d\d:?\d\d)$", r"+\1", value.strip())
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("It must be a time such as 2026-11-25T12:00:00Z.") from None
    if at.utcoffset() is None:
        raise ValueError("It has no time zone. End it with Z.")
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise ValueError("It is out of range.") from None
    if not EARLIEST <= at < LATEST:
        raise ValueError("It is out of range.")
    return at


def _words(value: Any) -> str:
    """Accept several values with commas between them, each once. Their meaning is the schema's."""
    words = [word.strip() for word in _text(value).split(",")]
    if len(words) > MOST_VALUES:
        raise ValueError(f"It may have at most {MOST_VALUES:,} values.")
    return ",".join(dict.fromkeys(words))


def _ids(value: Any) -> str:
    """Accept IDs with commas between them."""
    text = _words(value)
    for word in text.split(","):
        if not (_DIGITS.fullmatch(word) and 1 <= int(word) <= MAX_ID):
            raise ValueError(f"It must be IDs with commas between them, and {word[:40]!r} is none.")
    return text


def _user_numbers(value: Any) -> str:
    """Accept numbers of users with commas between them; those of users whose IDs are text are negative."""
    text = _words(value)
    for word in text.split(","):
        if not (_DIGITS.fullmatch(word.removeprefix("-")) and 1 <= abs(int(word)) <= MAX_ID):
            raise ValueError(f"It must be IDs with commas between them, and {word[:40]!r} is none.")
    return text


def _column_names(value: Any) -> str:
    """Accept `*`, names with commas between them, or an array of names; text for all of them."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return json.dumps([_text(name) for name in value])
    return _text(value)


def _flag(value: Any) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("It must be true or false.")


def _text(value: Any) -> str:
    """Accept text that every database can store and every page can show."""
    if not isinstance(value, str):
        raise ValueError("It must be text.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("It contains half of a character, which is not valid Unicode.")
    control = next((c for c in value if ord(c) < 32 or 127 <= ord(c) < 160), None)
    if control is not None:
        raise ValueError(f"It contains the control character {id_tokens.visible(control)}.")
    return value


def _lines(value: Any) -> str:
    """Accept text of several lines."""
    if isinstance(value, str):
        _text(re.sub("[\t\r\n]", " ", value))
        return value
    return _text(value)


def _visible_text(value: Any) -> str:
    """Accept text of which something can be seen."""
    text = _text(value)
    if not id_tokens.is_visible(text):
        raise ValueError("It has no visible character.")
    return text


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("It must be a number.")
    return value


def _user_number(value: Any) -> Any:
    """Accept what is a whole number but for its sign."""
    if isinstance(value, str) and value.startswith("-"):
        return -_whole_number(value[1:])
    return _whole_number(value)


def _external_id(value: Any) -> str:
    """Accept an ID that is text, as lists contain it."""
    text, reason, _ = id_tokens.read_text(_text(value))
    if text is None:
        raise ValueError(reason if reason != id_tokens.EMPTY else "It is empty.")
    return text


def _canary(value: Any) -> stopping.Canary:
    """Accept an object, or in a query or a form its JSON text; also as a GET shows it, with what can only be read."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(
                'It must be an object such as {"ids": 100, "min_succeeded_percent": 98}.'
            ) from None
    if isinstance(value, dict):
        value = {name: field_value for name, field_value in value.items() if name not in CANARY_READ_ONLY}
    return stopping.Canary.read(value)


# What a GET says of a canary besides what was asked for.
CANARY_READ_ONLY = frozenset({"state", "count", "succeeded", "needed", "decided_at"})
CANARY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "ids": {"type": "integer", "minimum": 1, "maximum": stopping.MOST_CANARY_IDS},
        "min_succeeded_percent": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
    },
    "required": ["ids", "min_succeeded_percent"],
    "example": {"ids": 100, "min_succeeded_percent": 98},
}


def _id_as_written(value: Any) -> int | str:
    """Accept a number, or text as it is written: 007 in quotes isn't the number 7."""
    if isinstance(value, str):
        return _external_id(value)
    number: int = _whole_number(value)
    if number < 1:
        raise ValueError("It must be at least 1.")
    if number > MAX_ID:
        raise ValueError(f"It must be at most {MAX_ID}.")
    return number


WHOLE = BeforeValidator(_whole_number)
# Limits come before the reader of the value. Otherwise they would be missing in the description.
Id = Annotated[int, Field(ge=1, le=MAX_ID, json_schema_extra={"format": "int64"}), WHOLE]
# Of a user: negative for one whose ID is text.
UserNumber = Annotated[
    int, Field(ge=-MAX_ID, le=MAX_ID, json_schema_extra={"format": "int64"}), BeforeValidator(_user_number)
]
ExternalId = Annotated[str, Field(json_schema_extra={"maxLength": 100}), BeforeValidator(_external_id)]
IdAsWritten = Annotated[
    int | str,
    BeforeValidator(_id_as_written),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ID, "format": "int64"},
                {"type": "string", "maxLength": 100},
            ]
        }
    ),
]
Count = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT), WHOLE]
Flag = Annotated[bool, BeforeValidator(_flag)]
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"
_TEXT = BeforeValidator(_text)
Text = Annotated[str, Field(json_schema_extra={"pattern": _PLAIN}), _TEXT]
# Text that may have several lines.
Lines = Annotated[str, BeforeValidator(_lines)]
TaskName = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra={"pattern": _PLAIN}),
    BeforeValidator(_visible_text),
]
UserName = Annotated[str, Field(max_length=200, json_schema_extra={"pattern": _PLAIN}), _TEXT]
QueueName = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[-a-zA-Z0-9_]+$"), _TEXT]
Address = Annotated[str, Field(max_length=2000, json_schema_extra={"pattern": r"^(https?://\S+)?$"}), _TEXT]
# Several values of a filter, with commas between them.
Ids = Annotated[
    str, Field(json_schema_extra={"pattern": r"^ *[0-9]+ *(, *[0-9]+ *)*$"}), BeforeValidator(_ids)
]
# Of users, whose numbers are negative where their IDs are text.
UserNumbers = Annotated[
    str,
    Field(json_schema_extra={"pattern": r"^ *-?[0-9]+ *(, *-?[0-9]+ *)*$"}),
    BeforeValidator(_user_numbers),
]
Words = Annotated[str, BeforeValidator(_words)]
ColumnNames = Annotated[
    str,
    BeforeValidator(_column_names),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}, "examples": ["*"]}),
]
Reference = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra={"pattern": _PLAIN}),
    BeforeValidator(_visible_text),
]
Expected = Annotated[int, Field(ge=0, le=MAX_ID), WHOLE]
TimeIn = Annotated[
    datetime,
    BeforeValidator(_time),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^(19[789]|20[0-5])[0-9]-.*(Z|[+-][0-9]{2}:?[0-9]{2})$",
            "examples": ["2026-11-25T12:00:00Z"],
        }
    ),
]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
ReadOnly = Field(None, json_schema_extra={"readOnly": True})
Percent = Annotated[float, Field(ge=0, lt=100), BeforeValidator(_number)]
Finished = Annotated[int, Field(ge=1, le=MAX_ID), WHOLE]
CanaryIn = Annotated[
    stopping.Canary,
    PlainValidator(_canary),
    WithJsonSchema({"type": "string", "examples": ['{"ids": 100, "min_succeeded_percent": 98}']}),
]
Seconds = Annotated[float, Field(gt=0, le=20), BeforeValidator(_number)]
