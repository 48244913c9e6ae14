"""HTML that is built in Python, where a template would be too slow. Plain text can't enter it by mistake.

`markup` escapes every value that isn't Markup itself, and only this module makes Markup out of plain text (a
test reads the code for that). So what somebody wrote, such as the name of a task, is always escaped.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

from django.utils.safestring import SafeString


class Markup(SafeString):
    """Escaped HTML.

    Signs are written as entities in it: one character beyond ASCII doubles the bytes that are copied.
    """

    __slots__ = ()
    # SafeString's own __str__ would be a Python call for each value that a template is filled with.
    __str__ = str.__str__


EMPTY = Markup("")
_SAFE = frozenset({Markup, SafeString, int, float})
# A few hundred different values occur: names, numbers, coordinates.
_escape = lru_cache(maxsize=8192)(escape)


def markup(template: str, *values: Any) -> Markup:
    """Fill the `%s` of a template, which is a literal in the code. Values are escaped unless they are Markup."""
    # By class, not by isinstance, for speed: a board fills a thousand values each second.
    return Markup(
        template
        % tuple(
            [
                value
                if value.__class__ in _SAFE
                else _escape(value if value.__class__ is str else str(value))
                for value in values
            ]
        )
    )


def join(parts: Iterable[Markup], separator: Markup = EMPTY) -> Markup:
    """Join pieces of markup."""
    return Markup(separator.join(parts))


class Part(NamedTuple):
    """A part of a page that updates by itself, found by the id of its root element.

    If only a child differs, the child is sent alone. inside: the element that browsers parse it in, such as
    the table of a row; empty for elements that may stand anywhere.
    """

    id: str
    before: Markup
    children: tuple["Part", ...] = ()
    after: Markup = EMPTY
    inside: str = ""

    def render(self) -> Markup:
        """Return the part with all its children."""
        return join([self.before, *[child.render() for child in self.children], self.after])


# The opening and closing tags of an element's parents, by `Part.inside`.
_AROUND = {
    "": ("", ""),
    "svg": ("<svg>", "</svg>"),
    "tbody": ("<table><tbody>", "</tbody></table>"),
    "tr": ("<table><tbody><tr>", "</tr></tbody></table>"),
}


def changed_parts(old: Part, new: Part) -> Iterator[Part]:
    """Return the smallest parts that differ: a parent if it differs itself, or has other children."""
    if old is new:
        return
    ids = [child.id for child in new.children]
    if (old.before, old.after) != (new.before, new.after) or ids != [child.id for child in old.children]:
        yield new
        return
    for was, becomes in zip(old.children, new.children, strict=True):
        yield from changed_parts(was, becomes)


def update(parts: Iterable[Part]) -> Markup:
    """Return parts as a poll sends them: each in the element that browsers parse it in."""
    pieces: list[str] = []
    inside = ""
    for part in parts:
        if part.inside != inside:
            pieces += (_AROUND[inside][1], _AROUND[part.inside][0])
            inside = part.inside
        pieces.append(part.render())
    return Markup("".join([*pieces, _AROUND[inside][1]]))
