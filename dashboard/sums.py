"""The tables of counts: how many failed alike, and what minutes, windows and queues held."""

from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from dashboard import addresses
from dashboard.tables import CARDS, Listed, count, link, number, text
from dashboard.templatetags import quarterdeck as write
from scheduling import cards, days, failures, models

ALL = "*"


class FailureGroupTable(Listed):
    """What failed alike; a row is a (failures.Group, address of its page)."""

    queue = text("Queue", "0__queue", shown="name")
    answer = text("Answer", "0__http_status", short="answer")
    message = text("Message", "0__message", shown="token whole")
    ids = number("IDs", "0__count", short="IDs")
    latest = number("Latest", "0__last_at", short="latest")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_answer(self, value: int | None) -> str:
        return "none" if value is None else str(value)

    def render_message(self, value: str) -> str:
        return value or "nothing was kept"

    def render_ids(self, record: tuple[failures.Group, str]) -> SafeString:
        group, address = record
        return link(address, write.number(group.count))

    def render_latest(self, record: tuple[failures.Group, str]) -> str:
        return write.moment(record[0].last_at)


class MinuteOfQueuesTable(Listed):
    """What a minute holds, a line for each queue; a row is a (queue, cards.Minute)."""

    queue = text("Queue", "0__name", shown="name")
    window = text("Window", "0", short="window")
    capacity = count("Capacity", "1__capacity")
    ids = number("IDs", "1__filled", short="IDs")
    waiting = count("Waiting", "1__waiting")
    in_flight = count("In flight", "1__in_flight")
    succeeded = count("Succeeded", "1__succeeded")
    failed = count("Failed", "1__failed", mark="bad")
    expired = count("Expired", "1__expired")
    cancelled = count("Cancelled", "1__cancelled")
    moved = count("Moved away", "1__moved")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, window: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of all queues the same quarter.
        self.starts_at = window

    def render_queue(self, value: str) -> SafeString:
        return link(write.queue_url(value), value)

    def render_window(self, value: models.Queue) -> SafeString:
        return link(addresses.window(value.name, self.starts_at), write.label(self.starts_at))

    def render_ids(self, record: tuple[models.Queue, cards.Minute]) -> str:
        minute = record[1]
        if not minute.over:
            return write.number(minute.filled)
        said = '{} <span class="notice">+{}</span>'
        return format_html(said, write.number(minute.filled), write.number(minute.over))


class ReceiptTable(Listed):
    """A window's receipt; a row is a minute as it is kept: a dict."""

    minute = text("Minute", shown="name")
    planned = number("Planned", short="planned")
    sent = count("Sent")
    succeeded = count("Succeeded")
    failed = count("Failed", mark="bad")
    late = count("Late", mark="notice")
    moved = count("Moved")
    cancelled = count("Cancelled")
    expired = count("Expired")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, queue: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = queue

    def render_planned(self, value: int) -> str:
        return write.number(value)

    def render_minute(self, value: str) -> SafeString:
        at = datetime.fromisoformat(value)
        return link(addresses.minute(at, self.queue), f"{timezone.localtime(at):%H:%M}")


class DayOfQueuesTable(Listed):
    """A day, a line for each queue; a row is a (name, sums by name)."""

    queue = text("Queue", "0", shown="name")
    planned = count("Planned", "1__filled")
    succeeded = count("Succeeded", "1__succeeded")
    failed = count("Failed", "1__failed", mark="bad")
    expired = count("Expired", "1__expired")
    cancelled = count("Cancelled", "1__cancelled")
    moved = count("Moved", "1__moved")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_queue(self, value: str) -> SafeString:
        return link(f"?queue={value}", value)


class DayOfWindowsTable(Listed):
    """A day, a line for each window that held something; a row is a days.Column."""

    runs_at = text("Runs at", shown="name")
    planned = count("Planned", "filled")
    sent = count("Sent")
    failed = count("Failed", mark="bad")
    peak = count("Peak")

    class Meta(Listed.Meta):
        attrs = CARDS
        empty_text = "Nothing was planned on this day."

    def __init__(self, *args: Any, queue: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Empty where several are added up: then there is no page of a window.
        self.queue = queue

    def _listed(self, record: days.Column, many: int, kind: str = "", css: str = "") -> str:
        """A number that leads to the IDs that it counts."""
        said = write.number(many)
        if not many:
            return said
        return format_html(
            '<a{} href="{}">{}</a>',
            mark_safe(f' class="{css}"' if css else ""),
            mark_safe(addresses.held(self.queue or ALL, record.starts_at) + kind),
            said,
        )

    def render_planned(self, record: days.Column) -> str:
        return self._listed(record, record.filled)

    def render_sent(self, record: days.Column) -> str:
        return self._listed(record, record.sent, "sent")

    def render_failed(self, record: days.Column) -> str:
        return self._listed(record, record.failed, "failed", "bad")

    def render_runs_at(self, record: days.Column) -> str:
        said = write.hour_mark(record.runs_at)
        return link(addresses.window(self.queue, record.starts_at), said) if self.queue else said


class FaultTable(Listed):
    """What could not be read of a list; a row is a fault as a draft keeps it: a dict."""

    where = text("Where", "token", shown="name")
    token = text("Token", shown="token", short="token")
    reason = text("Why", shown="whole")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_where(self, record: dict) -> str:
        if record.get("cell"):
            return record["cell"]
        if record.get("line") is None:
            return f"entry {record.get('index'):,}"
        column = f", column {record['column']}" if record.get("column") else ""
        return f"line {record['line']:,}{column}"


class DraftTable(Listed):
    """Previews that nobody has committed yet; a row is an IdList."""

    name = text("Name", "about__task_name", shown="name")
    ids = count("IDs", "ids_count", short="IDs")
    made = text("Made", "created_at", short="made")
    by = text("By", "about__operator", shown="quiet")
    acts = text(format_html('<span class="visually-hidden">{}</span>', "Acts"), "pk", shown="act")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, csrf_token: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.csrf_token = csrf_token

    def render_name(self, record: models.IdList) -> SafeString:
        return link(reverse("preview", args=[record.pk]), record.about.get("task_name") or "unnamed")

    def render_made(self, value: datetime) -> str:
        return write.moment(value)

    def render_acts(self, value: int) -> SafeString:
        form = (
            '<form method="post" action="{}"><input type="hidden" name="csrfmiddlewaretoken" value="{}">'
            '<button class="button small">Discard</button></form>'
        )
        return format_html(form, reverse("discard", args=[value]), self.csrf_token)
