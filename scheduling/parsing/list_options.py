"""How a list is to be read: what the query says, completed by the fields of the body as they arrive."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scheduling.core import id_tokens
from scheduling.parsing import errors
from scheduling.parsing.columns import MOST_COLUMNS, Table, is_header
from scheduling.parsing.data_columns import DataRequest

ID_TYPES = ("integer", "text")
OPTION_FIELDS = frozenset({"column", "sheet", "id_type", "data", "header"})


@dataclass
class ListOptions:
    """What a reader needs to know besides the bytes.

    accepted: the fields of the body that may complete these options.
    """

    column: str | None = None
    sheet: str | None = None
    id_type: str | None = None
    data: DataRequest | None = None
    header: bool | None = None
    leave_out_hidden: bool = False
    # The id_type of a list that the field `id` names, where nothing else says it.
    id_type_of: Callable[[str], str | None] | None = None
    # The same of a list that is known; a field may say otherwise, which its reader then refuses.
    default_id_type: str | None = None
    accepted: frozenset[str] = OPTION_FIELDS
    _options: dict[str, Any] = field(default_factory=dict)
    # Fields of a form that are there and empty.
    _empty_names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        options = {name: getattr(self, name) for name in OPTION_FIELDS}
        self._options = {name: value for name, value in options.items() if value is not None}
        self.id_type = self.id_type or self.default_id_type

    @property
    def is_text(self) -> bool:
        """Whether IDs are text."""
        return self.id_type == "text"

    @property
    def has_records(self) -> bool:
        """Whether an ID is more than a number."""
        return self.is_text or self.data is not None

    @property
    def is_complete(self) -> bool:
        """Whether no later field of a form can change how the list is read."""
        return self.accepted & {"column", "id_type", "data"} <= self._options.keys() | self._empty_names

    def note(self, name: str, value: Any) -> bool:
        """Take over a field of the body if it says how the list is to be read. Returns whether that changes."""
        if name == "id" and self.id_type_of is not None and "id_type" not in self._options:
            before, self.id_type = self.id_type, self.id_type_of(str(value)) or self.id_type
            return before != self.id_type
        return name in OPTION_FIELDS and self.set(name, value)

    def set(self, name: str, value: Any) -> bool:
        """Take over a field of the body. Returns whether it changes anything.

        Raises DoubledField if the query gave another value, IdTypeUnknown and DataUnclear.
        """
        if name not in self.accepted or value is None or value == "" or value == []:
            self._empty_names.add(name)
            return False
        plain = parsed_option(name, value)
        if plain is None:
            return False
        if name in self._options and self._options[name] != plain:
            raise errors.DoubledField(name=name)
        changes: bool = getattr(self, name) != plain
        self._options[name] = plain
        setattr(self, name, plain)
        return changes


def parsed_option(name: str, value: Any) -> Any:
    """Return the value of an option as it is used. Raises IdTypeUnknown, DataUnclear."""
    if name == "data":
        return DataRequest.parse(value)
    if name == "id_type" and value not in ID_TYPES:
        raise errors.IdTypeUnknown(given=id_tokens.visible(str(value)))
    if name == "header":
        return value not in (False, "false", "0")
    # The check of the fields refuses any other type.
    return value if isinstance(value, str) and value.strip() else None


def table_of(rows: Sequence[Sequence[str]], options: ListOptions) -> Table:
    """Return the table that begins with these rows.

    A list of text IDs has a header unless `header` is false: nothing tells its first ID from a name.
    """
    if options.is_text:
        has_header = options.header is not False
    else:
        has_header = bool(rows) and len(rows[0]) <= MOST_COLUMNS and is_header(rows[0])
    return Table(rows[0], rows[1:]) if has_header and rows else Table(None, rows)
