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
    """Escaped HTML. Signs stand in it as entities: one letter beyond ASCII doubles what is copied."""

    __slots__ = ()
    # SafeString's own is a Python call for each value that a template is filled with.
    __str__ = str.__str__


EMPTY = Markup("")
_SAFE = frozenset({Markup, SafeString, int, float})
# Of the values, a few hundred different ones occur: names, numbers, coordinates.
_escape = lru_cache(maxsize=8192)(escape)


def markup(template: str, *values: Any) -> Markup:
    """Fill the `%s` of a template, which is a literal in the code. Values are escaped, unless they are Markup."""
    # By class and not by isinstance: a board fills a thousand values each second.
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
    """One after another."""
    return Markup(separator.join(parts))


class Part(NamedTuple):
    """A piece of a page that updates by itself, found by the id of its root element.

    Where only a child differs, the child is sent alone. inside: the element that browsers parse it in, such as a
    row's table; empty for what may stand anywhere.
    """

    id: str
    before: Markup
    children: tuple["Part", ...] = ()
    after: Markup = EMPTY
    inside: str = ""

    def render(self) -> Markup:
        """The piece with all its children."""
        return join([self.before, *[child.render() for child in self.children], self.after])


# An element and its parents, by `Part.inside`.
_AROUND = {
    "": ("", ""),
    "svg": ("<svg>", "</svg>"),
    "tbody": ("<table><tbody>", "</tbody></table>"),
    "tr": ("<table><tbody><tr>", "</tr></tbody></table>"),
}


def changed_parts(old: Part, new: Part) -> Iterator[Part]:
    """The smallest parts that differ; a parent where it is itself another one, or has other children."""
    if old is new:
        return
    ids = [child.id for child in new.children]
    if (old.before, old.after) != (new.before, new.after) or ids != [child.id for child in old.children]:
        yield new
        return
    for was, becomes in zip(old.children, new.children, strict=True):
        yield from changed_parts(was, becomes)


def update(parts: Iterable[Part]) -> Markup:
    """Parts as a poll sends them: each in the element that browsers parse it in."""
    pieces: list[str] = []
    inside = ""
    for part in parts:
        if part.inside != inside:
            pieces += (_AROUND[inside][1], _AROUND[part.inside][0])
            inside = part.inside
        pieces.append(part.render())
    return Markup("".join([*pieces, _AROUND[inside][1]]))
