"""The viewpoint of the board's reader: their time zone, and whether they may act."""

from datetime import date, datetime, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from django.utils import timezone

from dashboard import formatting
from dashboard.markup import EMPTY, Markup, markup


class Viewpoint(NamedTuple):
    """A time zone and permission that several readers can share; they share what is drawn.

    why_not: the reason why they may not act; empty if they may.
    """

    zone: tzinfo
    today: date
    why_not: str = ""

    @classmethod
    def at(cls, at: datetime, why_not: str = "") -> "Viewpoint":
        """Return a viewpoint in the active time zone, on the local day of `at`."""
        zone = timezone.get_current_timezone()
        return cls(zone, at.astimezone(zone).date(), why_not)

    def clock(self, at: datetime) -> Markup:
        """14:22, exact on hover."""
        return formatting.time_element(at, "%H:%M", self.zone)

    def clock_seconds(self, at: datetime) -> Markup:
        """14:22:38."""
        return formatting.time_element(at, "%H:%M:%S", self.zone)

    def moment(self, at: datetime) -> Markup:
        """Draw the time, with the day if it isn't today."""
        return _moment(at, self.today, self.zone)

    def moment_or_blank(self, at: datetime | None) -> Markup:
        """Draw the time as `moment` does; nothing if there is none."""
        return self.moment(at) if at else EMPTY

    def action(
        self, label: Markup, href: str, key: str, *, css: str = "button small", more: Markup = EMPTY
    ) -> Markup:
        """Draw a link to an operation, disabled with the reason for readers who may not act.

        key: unique in the page. more: further attributes of the link.
        """
        if self.why_not:
            disabled = '<button type="button" class="%s" id="%s" disabled title="%s">%s</button>'
            return markup(disabled, css, key, self.why_not, label)
        return markup('<a class="%s" id="%s" href="%s"%s>%s</a>', css, key, href, more, label)

    def submit(self, label: Markup, action: str, key: str, *, field: str = "") -> Markup:
        """Draw a button that acts at once.

        It belongs to the page's own form and uses the token of that form, so that all readers can share the
        drawing. field: sent empty with it.
        """
        if self.why_not:
            return self.action(label, action, key)
        more = markup(' name="%s" value=""', field) if field else ""
        return markup(
            '<button class="button small" id="%s" form="act" formaction="%s"%s>%s</button>',
            *(key, action, more, label),
        )


@lru_cache(maxsize=4096)
def _moment(at: datetime, today: date, zone: tzinfo) -> Markup:
    is_today = at.astimezone(zone).date() == today
    return formatting.time_element(at, "%H:%M" if is_today else "%-d %b %Y, %H:%M", zone)


def link(label: Any, href: str, key: str, css: str = "") -> Markup:
    """Draw a link that keeps the focus during polls, because it has an id."""
    if css:
        return markup('<a id="%s" href="%s" class="%s">%s</a>', key, href, css, label)
    return markup('<a id="%s" href="%s">%s</a>', key, href, label)
