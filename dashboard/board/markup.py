"""Small pieces of markup for what is drawn in Python: escaped text, times in somebody's zone, links, buttons."""

from datetime import date, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple

from django.utils import timezone
from django.utils.html import escape

from dashboard import formatting


@lru_cache(maxsize=4096)
def written(text: str) -> str:
    """What somebody wrote, safe in an element and in a quoted attribute."""
    return str(escape(text))


class Hand(NamedTuple):
    """For whom something is drawn. why_not: why they may not act, in words; empty where they may."""

    zone: tzinfo
    today: date
    why_not: str = ""

    @classmethod
    def at(cls, at: datetime, why_not: str = "") -> "Hand":
        """In the zone that is set, on the day of `at` there."""
        zone = timezone.get_current_timezone()
        return cls(zone, at.astimezone(zone).date(), why_not)

    def clock(self, at: datetime) -> str:
        """14:22, exact on hover."""
        return formatting.time_element(at, "%H:%M", self.zone)

    def clock_seconds(self, at: datetime) -> str:
        """14:22:38."""
        return formatting.time_element(at, "%H:%M:%S", self.zone)

    def moment(self, at: datetime) -> str:
        """The time, and the day where it isn't today."""
        return _moment(at, self.today, self.zone)

    def act(self, label: str, href: str, key: str, *, css: str = "button small") -> str:
        """What leads to an act; for who may not, disabled with the reason. key: unique in the page."""
        if self.why_not:
            return (
                f'<button type="button" class="{css}" id="{key}" disabled title="{written(self.why_not)}">'
                f"{label}</button>"
            )
        return f'<a class="{css}" id="{key}" href="{href}">{label}</a>'

    def post(self, label: str, action: str, key: str, *, field: str = "") -> str:
        """A button that acts at once, by the page's own form: its token is the page's, so that all who look may
        share what is drawn. field: sent empty with it.
        """
        if self.why_not:
            return self.act(label, action, key)
        more = f' name="{field}" value=""' if field else ""
        return (
            f'<button class="button small" id="{key}" form="act" formaction="{action}"{more}>{label}</button>'
        )


@lru_cache(maxsize=4096)
def _moment(at: datetime, today: date, zone: tzinfo) -> str:
    is_today = at.astimezone(zone).date() == today
    return formatting.time_element(at, "%H:%M" if is_today else "%-d %b %Y, %H:%M", zone)


def link(said: str, href: str, key: str, css: str = "") -> str:
    """A link that keeps the focus over a poll, by its id."""
    kind = f' class="{css}"' if css else ""
    return f'<a id="{key}" href="{href}"{kind}>{said}</a>'
