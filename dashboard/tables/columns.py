"""The building blocks of tables: columns, links, and what all tables share.

A table neither counts nor orders.

Not for parts that are polled: a row takes about 0.6 ms of CPU.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import formatting

CARDS = {"class": "list cards"}


class Written(tables.Column):  # type: ignore[misc]  # django-tables2 has no types
    """A column whose cells are written by a function, such as one of `formatting`."""

    def __init__(self, write: Callable[[Any], str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.write = write

    def render(self, value: Any) -> str:
        return self.write(value)


def text(
    name: str | SafeString, accessor: str | None = None, *, shown: str | None = None, short: str | None = None
) -> tables.Column:
    """A column of words. shown: the class of its cells.

    short: its name on a phone, where the header is hidden.
    """
    # Every cell is written by its render method, including empty ones.
    attrs = {"th": {}, "td": {"class": shown, "data-name": short}}
    return tables.Column(verbose_name=name, accessor=accessor, attrs=attrs, empty_values=())


def number(
    name: str,
    accessor: str | None = None,
    *,
    shown: str | Callable[..., str] = "number",
    short: str | None = None,
    write: Callable[[Any], str] = formatting.number,
) -> Written:
    """A column of numbers or times, right-aligned.

    shown: the class of its cells, or a function that returns it for a record. write: returns the text of a value,
    unless the table has a method for the column.
    """
    attrs = {"th": {"class": "number"}, "td": {"class": shown, "data-name": short}}
    return Written(write, verbose_name=name, accessor=accessor, attrs=attrs, empty_values=())


def link(address: str, text: Any, css: str = "") -> SafeString:
    if css:
        return format_html('<a class="{}" href="{}">{}</a>', css, address, text)
    return format_html('<a href="{}">{}</a>', address, text)


def count(name: str, accessor: str | None = None, *, short: str | None = None, mark: str = "") -> Written:
    """A column of counts. short: its name on a phone. mark: the class of counts that aren't 0, such as `bad`."""

    def shown(value: str) -> str:
        # On a phone, where a count needs its name, zeros are left out.
        return "number zero" if value in ("", "0") else f"number {mark}".strip()

    attrs = {"th": {"class": "number"}, "td": {"class": shown, "data-name": short or name.lower()}}
    return Written(formatting.number, verbose_name=name, accessor=accessor, attrs=attrs, empty_values=())


class Listed(tables.Table):  # type: ignore[misc]  # the same
    """What all tables share: one template, and the order of the view."""

    # Columns that are there to be chosen.
    hidden_at_first: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def choosable(cls) -> list[tuple[str, str]]:
        """(name, label) of the columns that may be left out: all but the first, which names the row."""
        return [(name, str(column.verbose_name)) for name, column in cls.base_columns.items()][1:]

    class Meta:
        template_name = "dashboard/table.html"
        orderable = False
        default = ""


class Counted(tables.Column):  # type: ignore[misc]  # the same
    """A column of counts, each of which leads to the IDs that it counts. kind: see reports.drill_down.

    The table's `drill_down(record, kind)` returns the address of the list, or nothing where there is none.
    """

    def __init__(self, kind: str, css: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind, self.css = kind, css

    def render(self, value: int | None, record: Any, table: Any) -> SafeString | str:
        text = formatting.number(value)
        address = table.drill_down(record, self.kind) if value else ""
        return link(address, text, self.css) if address else text


def counted(
    name: str, accessor: str | None = None, kind: str = "", *, short: str | None = None, mark: str = ""
) -> Counted:
    """A column of counts like `count`, with links."""
    attrs = count(name, accessor, short=short, mark=mark).attrs
    return Counted(kind, mark, verbose_name=name, accessor=accessor, attrs=attrs, empty_values=())
