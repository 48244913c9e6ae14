"""Request templates: what a queue sends, with placeholders that each ID fills.

    {{id}}  {{data.first_name}}  {{data.first_name|"there"}}  {{task_id}}  {{idempotency_key}}

A template is parsed once, and filled as a tree: a value can become a part of a string, a path segment, a query
value or a header, and never more than that. Placeholders have no logic; a default, in single or double quotes,
takes the place of a value that is missing (no such column, or null) or empty. A value that is missing and has no
default fails that ID.

Source: docs/requests.md, "Placeholders". RFC 3986 for URLs, RFC 8259 for JSON, the URL standard for forms.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar
from urllib.parse import quote, quote_plus, unquote

from scheduling.core import exact_json
from scheduling.core.errors import BadTemplate, CannotFill
from scheduling.core.exact_json import Number
from scheduling.core.id_tokens import composed

NAMES = ("id", "task_id", "task_name", "queue", "attempt", "planned_at", "idempotency_key")
JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"
TEMPLATE_CHARACTERS = 64 * 1024

# A column's name may contain quotes: those of a default come after a bar.
_PLACEHOLDER = re.compile(r"""\{\{\s*([^{}|]+?)\s*(?:\|\s*(?:"([^"]*)"|'([^']*)')\s*)?\}\}""")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
# What precedes a default whose double quote has ended the string of a JSON document.
_QUOTED_DEFAULT = re.compile(r'\{\{[^{}|]*\|\s*"\Z')
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
# Every control character but the tab.
_LINE_BREAK = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
TOO_LONG = f"the template is longer than {TEMPLATE_CHARACTERS} characters"
NOT_TEXT = "a text contains half of a character (a lone surrogate)"
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Values:
    """What the placeholders of one request stand for.

    id: as its owner wrote it: a number, or text. data: the columns that travel with it; JSON values.
    """

    id: int | str
    task_id: int
    task_name: str
    queue: str
    attempt: int
    planned_at: str
    idempotency_key: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Placeholder:
    """name: one of NAMES, or `data.` and a column. default: None if it has none. position: in the template."""

    name: str
    default: str | None
    position: int

    @property
    def column(self) -> str | None:
        return self.name.removeprefix("data.") if self.name.startswith("data.") else None

    def value(self, values: Values) -> Any:
        """Return the value with its type. Raises CannotFill if it is missing and has no default."""
        column = self.column
        value = getattr(values, self.name) if column is None else values.data.get(column)
        if value is None or value == "":
            if self.default is not None:
                return self.default
            if value is None:
                raise CannotFill(reason=f"{self.name} is missing")
        return value

    def text(self, values: Values) -> str:
        """Return the value as text: of anything but text the JSON."""
        return _text_of(self.value(values))


Piece = str | Placeholder


@dataclass(frozen=True, slots=True)
class Pieces:
    """A string of a JSON document with placeholders in it."""

    pieces: tuple[Piece, ...]


# A compiled JSON document: its strings with placeholders are Pieces.
Node = Any


def placeholders_of(pieces: Sequence[Piece]) -> Iterator[Placeholder]:
    return (piece for piece in pieces if isinstance(piece, Placeholder))


def parse(text: str, position: int = 0) -> tuple[Piece, ...]:
    """Split a text into literal parts and placeholders. Raises BadTemplate, with a position from `position` on."""
    if len(text) > TEMPLATE_CHARACTERS:
        raise BadTemplate(reason=TOO_LONG, position=0)
    pieces: list[Piece] = []
    end = 0
    while (start := text.find("{{", end)) >= 0:
        match = _PLACEHOLDER.match(text, start)
        if match is None:
            reason = "a placeholder looks like {{id}} or {{data.name|'a default'}}"
            raise BadTemplate(reason=reason, position=position + start)
        name = composed(match[1])
        if name not in NAMES and not (name.startswith("data.") and len(name) > len("data.")):
            raise BadTemplate(reason=_unknown(name), position=position + start)
        if start > end:
            pieces.append(text[end:start])
        default = match[2] if match[2] is not None else match[3]
        pieces.append(Placeholder(name, default, position + start))
        end = match.end()
    if end < len(text):
        pieces.append(text[end:])
    return tuple(pieces)


def _unknown(name: str) -> str:
    column = name.rpartition(".")[2] or "name"
    near = difflib.get_close_matches(name, [*NAMES, f"data.{column}"], 1, 0.6)
    advice = f"; the nearest is {{{{{near[0]}}}}}" if near else ""
    return f"there is no placeholder {{{{{name}}}}}{advice}"


def as_json(value: Any) -> str:
    """Return a value as compact JSON. Raises CannotFill."""
    try:
        return exact_json.write(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise CannotFill(reason=f"a value can't be written as JSON: {error}") from None


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)


def _text(pieces: Sequence[Piece], values: Values) -> str:
    return "".join(piece if isinstance(piece, str) else piece.text(values) for piece in pieces)


# --- URLs ---


@dataclass(frozen=True)
class UrlTemplate:
    """An address whose path and query may contain placeholders.

    origin: scheme, host and port, as written. path, query: in pieces, the query with its `?`.
    """

    origin: str
    path: tuple[Piece, ...]
    query: tuple[Piece, ...]

    @classmethod
    def parse(cls, url: str) -> "UrlTemplate":
        """Raises BadTemplate."""
        pieces = parse(url)
        scheme = _SCHEME.match(url)
        if scheme is None:
            raise BadTemplate(reason="an address begins with http:// or https://", position=0)
        first = pieces[0] if isinstance(pieces[0], str) else ""
        host_end = next((at for at in range(scheme.end(), len(first)) if first[at] in "/?#"), len(first))
        placeholders = list(placeholders_of(pieces))
        if placeholders and host_end == len(first):
            reason = "the scheme, host and port can't contain a placeholder"
            raise BadTemplate(reason=reason, position=placeholders[0].position)
        path, query = _split_query([first[host_end:], *pieces[1:]])
        if any(isinstance(piece, str) and "#" in piece for piece in (*path, *query)):
            raise BadTemplate(reason="an address has no fragment (#)", position=url.index("#"))
        template = cls(first[:host_end], path if any(path) else ("/",), query)
        if any(unquote(segment) in (".", "..") for segment in template._sample):
            raise BadTemplate(reason="the path has a segment that is . or ..", position=host_end)
        return template

    @property
    def _sample(self) -> list[str]:
        """The segments of the path, with x for each value."""
        return "".join(_quoted(piece) if isinstance(piece, str) else "x" for piece in self.path).split("/")

    @property
    def sample(self) -> str:
        """The address with x for each value."""
        pieces = (*self.path, *self.query)
        return self.origin + "".join(piece if isinstance(piece, str) else "x" for piece in pieces)

    def fill(self, values: Values) -> str:
        """Return the path and query of a request, percent-encoded. Raises CannotFill."""
        path = _fill_quoted(self.path, values)
        for segment, sample in zip(path.split("/"), self._sample, strict=True):
            if unquote(segment) in (".", ".."):
                raise CannotFill(reason=f"a segment of the path would be '{unquote(segment)}'")
            if sample and not segment:
                raise CannotFill(reason="a segment of the path would be empty")
        return path + _fill_quoted(self.query, values)


def _split_query(pieces: Sequence[Piece]) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Split at the first literal `?`: a value, a default or a column's name may contain one too."""
    for index, piece in enumerate(pieces):
        if isinstance(piece, str) and "?" in piece:
            at = piece.index("?")
            return (*pieces[:index], piece[:at]), (piece[at:], *pieces[index + 1 :])
    return tuple(pieces), ()


def _quoted(literal: str) -> str:
    # As it is written, but for what no address may contain.
    return quote(literal, safe="%/:?[]@!$&'()*+,;=~-._")


def _fill_quoted(pieces: Sequence[Piece], values: Values) -> str:
    # quote() leaves unreserved characters as they are, and no others: not even the slash.
    try:
        return "".join(
            _quoted(piece) if isinstance(piece, str) else quote(piece.text(values), safe="")
            for piece in pieces
        )
    except UnicodeEncodeError:
        raise CannotFill(reason=NOT_TEXT) from None


# --- Headers ---


@dataclass(frozen=True)
class HeaderTemplate:
    """The value of a header."""

    pieces: tuple[Piece, ...]

    @classmethod
    def parse(cls, value: str) -> "HeaderTemplate":
        """Raises BadTemplate."""
        return cls(parse(value))

    def fill(self, values: Values) -> str:
        """Return the value. Raises CannotFill for a line break or another control character."""
        value = _text(self.pieces, values)
        if _LINE_BREAK.search(value):
            raise CannotFill(reason="a header would contain a line break or a control character")
        return value


# --- Bodies ---


class BodyTemplate(Protocol):
    """The body of a request."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All of its text, to find the placeholders in."""
        ...

    def fill(self, values: Values) -> bytes:
        """Raises CannotFill."""
        ...


def parse_body(template: str, content_type: str) -> BodyTemplate:
    """Parse a body: a JSON document, a JSON object of a form's names and values, or text; or nothing.

    Raises BadTemplate.
    """
    if not template:
        return TextBody(())
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON_TYPE or (kind.startswith("application/") and kind.endswith("+json")):
        return JsonBody.parse(template)
    return FormBody.parse(template) if kind == FORM_TYPE else TextBody(parse(template))


@dataclass(frozen=True)
class TextBody:
    pieces: tuple[Piece, ...]

    def fill(self, values: Values) -> bytes:
        return _encoded(_text(self.pieces, values))


@dataclass(frozen=True)
class JsonBody:
    """A JSON document.

    A string that is exactly one placeholder becomes the value with its type. In any other string, and in the name
    of a member, values are inserted as text.
    """

    tree: Any
    pieces: tuple[Piece, ...]

    @classmethod
    def parse(cls, template: str) -> "JsonBody":
        """Raises BadTemplate."""
        tree, pieces = _read_json(template), _pieces_of_strings(template)
        return cls(_compiled(tree), pieces)

    def fill(self, values: Values) -> bytes:
        return _encoded(as_json(_filled(self.tree, values)))


@dataclass(frozen=True)
class FormBody:
    """A form, URL-encoded: a JSON object of names and values. A list repeats its name; null leaves it out."""

    fields: tuple[tuple[Node, Node], ...]
    pieces: tuple[Piece, ...]

    @classmethod
    def parse(cls, template: str) -> "FormBody":
        """Raises BadTemplate."""
        tree, pieces = _read_json(template), _pieces_of_strings(template)
        if not isinstance(tree, Mapping):
            raise BadTemplate(reason="a form is a JSON object of names and values", position=0)
        fields = []
        for name, value in tree.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, Mapping | list):
                    raise BadTemplate(
                        reason=f"a form's values are text or numbers, and {name} isn't", position=0
                    )
                if item is not None:
                    fields.append((_compiled(name), _compiled(item)))
        return cls(tuple(fields), pieces)

    def fill(self, values: Values) -> bytes:
        pairs = [(_filled(name, values), _filled(value, values)) for name, value in self.fields]
        try:
            return "&".join(
                f"{quote_plus(_text_of(name))}={quote_plus(_text_of(value))}" for name, value in pairs
            ).encode()
        except UnicodeEncodeError:
            raise CannotFill(reason=NOT_TEXT) from None


def _read_json(template: str) -> Any:
    if len(template) > TEMPLATE_CHARACTERS:
        raise BadTemplate(reason=TOO_LONG, position=0)
    try:
        tree = json.loads(
            template,
            object_pairs_hook=_unique,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_refuse_constant,
        )
        # Whatever can't be sent would fail each ID: half of a character.
        _encoded(as_json(tree))
        return tree
    except CannotFill as error:
        raise BadTemplate(reason=error.facts["reason"], position=0) from None
    except json.JSONDecodeError as error:
        advice = ""
        if _QUOTED_DEFAULT.search(template, 0, error.pos):
            advice = " (inside JSON, a default is written in single quotes: {{data.name|'a default'}})"
        elif template.startswith("{{", error.pos) or template.startswith("{", error.pos - 1):
            advice = ' (a placeholder is written in quotes: "{{id}}" becomes a number if it is one)'
        raise BadTemplate(
            reason=f"the template is not JSON: {error.msg}{advice}", position=error.pos
        ) from None
    except RecursionError:
        raise BadTemplate(reason="the template is nested too deeply", position=0) from None
    except ValueError as error:
        raise BadTemplate(reason=str(error), position=0) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> Number:
    number = Number(text)
    if number.is_too_large:
        raise ValueError(f"{text[:20]} can't be written as JSON: it is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice!r} twice")
    return result


def _pieces_of_strings(template: str) -> tuple[Piece, ...]:
    """The pieces of all strings of a JSON document, with their positions in it. Raises BadTemplate."""
    pieces: list[Piece] = []
    for string in _STRING.finditer(template):
        # Escapes make a string longer than its text: then a position is that of its string.
        text = json.loads(string[0], strict=False)
        exact = len(text) == len(string[0]) - 2
        try:
            pieces += parse(text, string.start() + 1)
        except BadTemplate as error:
            if not exact:
                error = BadTemplate(reason=error.facts["reason"], position=string.start() + 1)
            raise error from None
    return tuple(pieces)


def _compiled(tree: Any) -> Node:
    if isinstance(tree, str):
        pieces = parse(tree)
        return Pieces(pieces) if any(placeholders_of(pieces)) else tree
    if isinstance(tree, Mapping):
        return {_compiled(name): _compiled(value) for name, value in tree.items()}
    return [_compiled(value) for value in tree] if isinstance(tree, list) else tree


def _filled(node: Node, values: Values) -> Any:
    if isinstance(node, Pieces):
        [only, *others] = node.pieces
        return (
            only.value(values) if not others and isinstance(only, Placeholder) else _text(node.pieces, values)
        )
    if isinstance(node, dict):
        filled = {_name(name, values): _filled(value, values) for name, value in node.items()}
        if len(filled) < len(node):
            raise CannotFill(reason="two names of an object would be the same")
        return filled
    return [_filled(value, values) for value in node] if isinstance(node, list) else node


def _name(name: str | Pieces, values: Values) -> str:
    return name if isinstance(name, str) else _text(name.pieces, values)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise CannotFill(reason=NOT_TEXT) from None


# --- A whole request ---


@dataclass(frozen=True)
class RequestTemplate:
    """The templates of a queue's request. body: None for the standard one, which the handler makes."""

    url: UrlTemplate
    headers: Mapping[str, HeaderTemplate]
    body: BodyTemplate | None

    @classmethod
    def parse(
        cls, *, url: str, headers: Mapping[str, str], body: str | None, content_type: str
    ) -> "RequestTemplate":
        """Raises BadTemplate; its facts contain the field."""
        return cls(
            _in_field("webhook_url", UrlTemplate.parse, url),
            {
                name: _in_field("webhook_headers", HeaderTemplate.parse, value)
                for name, value in headers.items()
            },
            None
            if body is None
            else _in_field("webhook_body", lambda text: parse_body(text, content_type), body),
        )

    @property
    def placeholders(self) -> list[Placeholder]:
        pieces = [*self.url.path, *self.url.query]
        pieces += [piece for header in self.headers.values() for piece in header.pieces]
        return list(placeholders_of([*pieces, *(self.body.pieces if self.body else ())]))

    @property
    def required_columns(self) -> list[str]:
        """The columns that a list must have: those of placeholders without a default, in their order."""
        columns = [
            placeholder.column
            for placeholder in self.placeholders
            if placeholder.column is not None and placeholder.default is None
        ]
        return list(dict.fromkeys(columns))


def _in_field(field: str, parse_field: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse_field(text)
    except BadTemplate as error:
        error.facts["field"] = field
        raise
