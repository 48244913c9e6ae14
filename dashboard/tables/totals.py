"""Tables of counts: groups of failures, and the totals of minutes, windows and queues."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import addresses, formatting
from dashboard.tables.columns import CARDS, Counted, Listed, count, counted, link, number, text
from scheduling import models
from scheduling.reports import budget_use, cards, coming_days, days, planning
from scheduling.tasks import failures

ALL = "*"


class FailureGroupTable(Listed):
    """Groups of failures that are alike; a row is a (failures.Group, address of its page)."""

    queue = text("Queue", "0__queue", shown="name")
    answer = text("Answer", "0__http_status", short="answer")
    message = text("Message", "0__message", shown="token whole")
    ids = number("IDs", "0__count", short="IDs")
    latest = number("Latest", "0__last_at", short="latest", write=formatting.moment)
    act = text(format_html('<span class="visually-hidden">{}</span>', "Actions"), "1", shown="act")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_act(self, value: str) -> SafeString:
        return link(f"{value}#retry", "Retry…", "button small")

    def render_answer(self, value: int | None) -> str:
        return "none" if value is None else str(value)

    def render_message(self, value: str) -> str:
        return value or "nothing was recorded"

    def render_ids(self, record: tuple[failures.Group, str]) -> SafeString:
        group, address = record
        return link(address, formatting.number(group.count))


class TargetTable(Listed):
    """Budgets of targets; a row is a budget_use.Use."""

    target = text("Target", "target__origin", shown="name")
    rpm = number("Requests per minute", "rpm", short="rpm")
    now_count = number("This minute", "now_count", short="now")
    peak = number(
        "Fullest minute of the next 30",
        "peak",
        shown=lambda record: "number notice" if record.is_full else "number",
        short="peak",
    )
    queues = text("Queues", "queues", shown="quiet")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_target(self, record: budget_use.Use) -> SafeString:
        return link(reverse("target", args=[record.target.pk]), record.target.origin)

    def render_rpm(self, value: int | None) -> str:
        return "no limit" if value is None else formatting.number(value)

    def render_peak(self, record: budget_use.Use) -> SafeString | str:
        if record.peak_at is None:
            return "0"
        return link(addresses.minute(record.peak_at), formatting.number(record.peak))

    def render_queues(self, value: tuple[str, ...]) -> str:
        return ", ".join(value) or "none"


class MinuteOfQueuesTable(Listed):
    """The contents of a minute, a line for each queue; a row is a (queue, cards.Minute)."""

    queue = text("Queue", "0__name", shown="name")
    window = text("Window", "0", short="window")
    capacity = count("Capacity", "1__capacity")
    ids = counted("IDs", "1__filled", short="IDs")
    waiting = counted("Waiting", "1__waiting", "waiting")
    late = counted("Late", "1__waiting", "late", mark="notice")
    in_flight = counted("In flight", "1__in_flight", "in_flight")
    succeeded = counted("Succeeded", "1__succeeded", "succeeded")
    failed = counted("Failed", "1__failed", "failed", mark="bad")
    expired = counted("Expired", "1__expired", "expired")
    cancelled = counted("Cancelled", "1__cancelled", "cancelled")
    moved = counted("Moved out", "1__moved", "moved")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, window: datetime, is_over: bool, **kwargs: Any) -> None:
        # IDs that wait in a past minute are late.
        super().__init__(*args, exclude=("waiting",) if is_over else ("late",), **kwargs)
        # The same quarter-hour of all queues.
        self.starts_at = window

    def drill_down(self, record: tuple[models.Queue, cards.Minute], kind: str) -> str:
        return addresses.drill_down_minute(record[0].name, record[1].minute, kind)

    def render_ids(
        self, value: int, record: tuple[models.Queue, cards.Minute], column: Counted
    ) -> SafeString | str:
        ids = column.render(value, record, self)
        if not record[1].over:
            return ids
        return format_html('{} <span class="notice">+{}</span>', ids, formatting.number(record[1].over))

    def render_queue(self, value: str) -> SafeString:
        return link(addresses.queue(value), value)

    def render_window(self, value: models.Queue) -> SafeString:
        return link(addresses.window(value.name, self.starts_at), formatting.window_label(self.starts_at))


class ReceiptTable(Listed):
    """A window's receipt; a row is a minute as it is stored: a dict, and its planning.

    has_lists: whether the numbers are still those of the lists to which they lead.
    """

    minute = text("Minute", "0__minute", shown="name")
    first_planned = count("First planned", "1__first_planned")
    moved_in = count("Moved in", "1__moved_in")
    moved = counted("Moved out", "1__moved_out", kind="moved")
    cancelled = counted("Cancelled", "0__cancelled", kind="cancelled")
    requests_made = count("Requests made", "1__requests_made")
    finished = count("Finished", "1__finished")
    succeeded = counted("Succeeded", "0__succeeded", kind="succeeded")
    failed = counted("Failed", "0__failed", kind="failed", mark="bad")
    late = counted("Late", "0__late", kind="moved_late", mark="notice")
    expired = counted("Expired", "0__expired", kind="expired")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, queue: str, has_lists: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue, self.has_lists = queue, has_lists

    def drill_down(self, record: tuple[dict[str, Any], planning.Planning], kind: str) -> str:
        if not self.has_lists:
            return ""
        return addresses.drill_down_minute(self.queue, datetime.fromisoformat(record[0]["minute"]), kind)

    def render_minute(self, value: str) -> SafeString:
        at = datetime.fromisoformat(value)
        return link(addresses.minute(at, self.queue), f"{timezone.localtime(at):%H:%M}")


class DayOfQueuesTable(Listed):
    """The totals of a day, a line for each queue; a row is a (name, sums by name)."""

    queue = text("Queue", "0", shown="name")
    planned = counted("IDs", "1__filled", short="IDs")
    succeeded = counted("Succeeded", "1__succeeded", "succeeded")
    failed = counted("Failed", "1__failed", "failed", mark="bad")
    expired = counted("Expired", "1__expired", "expired")
    cancelled = counted("Cancelled", "1__cancelled", "cancelled")
    moved = counted("Moved out", "1__moved", "moved")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, begin: datetime, end: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begin, self.end = begin, end

    def drill_down(self, record: tuple[str, dict[str, int]], kind: str) -> str:
        return addresses.drill_down_between(record[0], self.begin, self.end, kind)

    def render_queue(self, value: str) -> SafeString:
        return link(f"?queue={value}", value)


class DayOfWindowsTable(Listed):
    """The totals of a day, a line for each window with IDs; a row is a days.Column."""

    runs_at = text("Runs at", shown="name")
    first_planned = number("First planned", "runs_at", short="first planned")
    cancelled = number("Cancelled", "runs_at", short="cancelled")
    moved_in = number("Moved in", "runs_at", short="moved in")
    moved = counted("Moved out", kind="moved", mark="notice")
    planned = counted("IDs", "filled", short="IDs")
    requests_made = number("Requests made", "runs_at", short="requests made")
    finished = number("Finished", "runs_at", short="finished")
    sent = counted("Sent", kind="sent")
    failed = counted("Failed", kind="failed", mark="bad")
    peak = number("Peak", short="peak")

    class Meta(Listed.Meta):
        attrs = CARDS
        empty_text = "Nothing was planned on this day."

    def __init__(
        self, *args: Any, queue: str, planned: Mapping[datetime, planning.Planning], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.planning = planned
        # Empty if several windows are added up, since there is no page of them.
        self.queue = queue

    def drill_down(self, record: days.Column, kind: str) -> str:
        return addresses.drill_down(self.queue or ALL, record.starts_at, kind)

    def _planned(self, runs_at: datetime, name: str) -> str:
        return formatting.number(getattr(self.planning.get(runs_at, planning.Planning()), name))

    def render_first_planned(self, value: datetime) -> str:
        return self._planned(value, "first_planned")

    def render_cancelled(self, value: datetime) -> str:
        return self._planned(value, "cancelled")

    def render_moved_in(self, value: datetime) -> str:
        return self._planned(value, "moved_in")

    def render_requests_made(self, value: datetime) -> str:
        return self._planned(value, "requests_made")

    def render_finished(self, value: datetime) -> str:
        return self._planned(value, "finished")

    def render_peak(self, record: days.Column) -> SafeString | str:
        fullest = max(record.cells, key=lambda cell: cell.filled)
        return link(addresses.minute(fullest.minute, self.queue or ALL), formatting.number(record.peak))

    def render_runs_at(self, record: days.Column) -> str:
        text = formatting.hour_mark(record.runs_at)
        return link(addresses.window(self.queue, record.starts_at), text) if self.queue else text


class ComingDaysTable(Listed):
    """The coming days of a queue, a line for each; a row is a coming_days.Day."""

    day = text("Day", "begins_at", shown="name")
    # A 0 is shown on phones too, because people look for days without capacity.
    capacity = number("Capacity", short="capacity")
    planned = number("Planned", short="planned")
    free = number("Free", short="free")
    used = text("Share", "planned", short="share")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, queue: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = queue

    def render_day(self, value: datetime) -> SafeString:
        day = timezone.localtime(value)
        address = addresses.with_query(reverse("history", args=[f"{day:%Y-%m-%d}"]), queue=self.queue)
        return link(address, f"{day:%A} {day.day} {day:%B}")

    def render_used(self, record: coming_days.Day) -> str:
        if not record.capacity:
            return "closed" if not record.planned else "above the limit"
        return f"{100 * record.planned / record.capacity:.0f}%"


class FaultTable(Listed):
    """Faults of a list; a row is a fault as a draft stores it: a dict."""

    where = text("Where", "token", shown="name")
    token = text("Token", shown="token", short="token")
    reason = text("Why", shown="whole")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_where(self, record: dict[str, Any]) -> str:
        if record.get("cell"):
            return str(record["cell"])
        if record.get("line") is None:
            return f"entry {record.get('index'):,}"
        column = f", column {record['column']}" if record.get("column") else ""
        return f"line {record['line']:,}{column}"


class DraftTable(Listed):
    """Previews that are not placed yet; a row is an IdList."""

    name = text("Name", "about__task_name", shown="name")
    ids = count("IDs", "ids_count", short="IDs")
    made = text("Made", "created_at", short="made")
    by = text("By", "about__operator", shown="quiet")
    acts = text(format_html('<span class="visually-hidden">{}</span>', "Actions"), "pk", shown="act")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, csrf_token: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.csrf_token = csrf_token

    def render_name(self, record: models.IdList) -> SafeString:
        return link(reverse("preview", args=[record.pk]), record.about.get("task_name") or "unnamed")

    def render_made(self, value: datetime) -> str:
        return formatting.moment(value)

    def render_acts(self, value: int) -> SafeString:
        form = (
            '<form method="post" action="{}"><input type="hidden" name="csrfmiddlewaretoken" value="{}">'
            '<button class="button small">Discard</button></form>'
        )
        return format_html(form, reverse("discard", args=[value]), self.csrf_token)
