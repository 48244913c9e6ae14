"""HTML that is built in Python, where a template would be too slow. Plain text can't enter it by mistake.

`markup` escapes every value that isn't Markup itself, and only this module makes Markup out of plain text (a
test reads the code for that). So what somebody wrote, such as the name of a task, is always escaped.
"""

from collections.abc import Iterable
from functools import lru_cache
from html import escape
from typing import Any

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
        template % tuple([value if value.__class__ in _SAFE else _escape(str(value)) for value in values])
    )


def join(parts: Iterable[Markup], separator: Markup = EMPTY) -> Markup:
    """One after another."""
    return Markup(separator.join(parts))
