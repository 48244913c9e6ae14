"""Tables of rows, one class for each list. Views pass in the rows of one page."""

from collections.abc import Collection, Sequence
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import addresses, formatting, id_texts
from dashboard.drawing import svg
from dashboard.inputs import choices
from dashboard.markup import Markup
from dashboard.presenters import id_story
from dashboard.presenters.task_detail import Line
from dashboard.tables.columns import CARDS, Listed, count, link, number, text
from scheduling import models
from scheduling.lists import external_ids
from scheduling.reports import cards, drill_down, id_history, minute_rows, request_log
from scheduling.tasks import failures

# How much of a response a list shows.
ANSWER_SHOWN = 120


class OfIds(Listed):
    """A list with an ID in each row."""

    user_id = text("ID")

    def __init__(self, rows: Sequence[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(rows, *args, **kwargs)
        self.id_texts = external_ids.texts(row.user_id for row in rows)

    def render_user_id(self, value: int) -> SafeString:
        return link(reverse("id", args=[value]), id_texts.shown(value, self.id_texts), "id")

    class Meta(Listed.Meta):
        attrs = CARDS


def _status(status: models.Status) -> SafeString:
    key = '<svg class="key" aria-hidden="true"><rect class="{}" width="12" height="12" rx="2"/></svg> {}'
    return format_html(key, status.word, formatting.as_words(status.word))


class TaskTable(Listed):
    """Tasks; a row is a task_detail.Line."""

    name = text("Task", "task__name", shown="name")
    state = text("State")
    queue = text("Queue", "task__queue__name", shown="quiet")
    ids = number("IDs", "task__ids_count", short="IDs")
    progress = text("Progress", "task", shown="whole wide")
    failed = number(
        "Failed",
        "task__failed_count",
        shown=lambda record: "number bad" if record.task.failed_count else "number zero",
        short="failed",
    )
    first = number("First minute", "task__first_minute_at", short="first minute", write=formatting.moment)
    done = number("Done at", "done_at", short="done at")
    succeeded = count("Succeeded", "task__succeeded_count")
    cancelled = count("Cancelled", "task__cancelled_count")
    expired = count("Expired", "task__expired_count")
    repeats = count("Repeats", "task__repeats_count")
    reference = text("Reference", "task__reference", shown="quiet whole", short="reference")
    created = number("Created", "task__created_at", short="created", write=formatting.moment)
    by = text("By", "task__created_by", shown="quiet")

    hidden_at_first = ("first", "succeeded", "cancelled", "expired", "repeats", "reference")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_done(self, record: Line) -> str:
        if record.why_no_end:
            return record.why_no_end
        moment = formatting.moment(record.task.finished_at or record.done_at)
        return format_html("{}{}", moment, record.or_later)

    def __init__(self, *args: Any, selectable: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.selectable = selectable

    def render_name(self, record: Line) -> SafeString:
        name = link(addresses.task(record.task.pk), record.task.name)
        if not self.selectable:
            return name
        tick = (
            '<span class="ticked"><label class="tick"><input type="checkbox" name="id" value="{}" form="selected"'
            ' aria-label="Select “{}”"></label>{}</span>'
        )
        return format_html(tick, record.task.pk, record.task.name, name)

    def render_state(self, record: Line) -> SafeString:
        state = format_html(
            '<span class="state"><span class="sign" aria-hidden="true">{}</span>{}</span>',
            record.sign,
            record.state.label,
        )
        if record.is_on_hold:
            state = format_html('{} <span class="notice">on hold</span>', state)
        elif record.task.waits_for_canary:
            state = format_html("{} canary: {}", state, record.task.canary_progress)
        if not (late := record.late_count):
            return state
        address = f"{addresses.task(record.task.pk)}?status=waiting#ids"
        return format_html("{} {}", state, link(address, f"{late:,} late", "notice"))

    def render_ids(self, record: Line) -> SafeString:
        return link(f"{addresses.task(record.task.pk)}#ids", formatting.number(record.task.ids_count))

    def render_progress(self, value: models.Task) -> str:
        return svg.task_progress(value)

    def render_failed(self, record: Line) -> SafeString | str:
        if not (many := record.task.failed_count):
            return formatting.number(many)
        address = f"{addresses.task(record.task.pk)}?status=failed#ids"
        return link(address, formatting.number(many), "bad")


class PlaceTable(OfIds):
    """A task's IDs; a row is a task_detail.Place."""

    minute = text("Minute", "minute_at")
    status = text("Status", shown="nowrap")
    attempts = number("Attempts", short="attempts")
    late = number(
        "Late",
        "late_seconds",
        shown=lambda record: "number notice" if record.late_seconds else "number",
        short="late",
    )

    class Meta(OfIds.Meta):
        empty_text = "None of its IDs match."

    def __init__(self, *args: Any, queue: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = queue

    def render_minute(self, record: id_history.Place) -> SafeString:
        at = record.minute_at
        markup = '<a href="{}" title="{} UTC">{}</a>'
        return format_html(
            markup, addresses.minute(at, self.queue), f"{at:%H:%M}", formatting.minute_text(at)
        )

    def render_status(self, value: models.Status) -> SafeString:
        return _status(value)

    def render_late(self, value: float) -> str:
        return formatting.duration(value) if value else ""


class MinuteTable(OfIds):
    """A minute's IDs; a row is a minute_rows.Row."""

    task = text("Task", shown="name whole")
    status = text("Status", shown="nowrap")
    attempts = number("Attempts", short="attempts")
    planned = number("Planned", "planned_at", short="planned", write=formatting.clock_milliseconds)
    started = number("Started", "started_at", short="started", write=formatting.clock_milliseconds)
    late = number("Late by", "late_seconds", short="late by")

    class Meta(OfIds.Meta):
        pass

    def render_task(self, value: models.Task) -> SafeString:
        return link(addresses.task(value.pk), value.name)

    def render_status(self, value: models.Status) -> SafeString:
        return _status(value)

    def render_late(self, record: minute_rows.Row) -> SafeString | str:
        if record.late_seconds:
            return format_html('<span class="notice">{}</span>', formatting.duration(record.late_seconds))
        # For a start within its minute, its distance from its slot.
        if record.planned_at is None or record.started_at is None:
            return ""
        late_ms = (record.started_at - record.planned_at).total_seconds() * 1000
        # A start is stored in whole milliseconds, rounded down: less than one before the slot counts as on it.
        return f"{0 if -1 < late_ms < 0 else late_ms:,.0f} ms"


class DrillDownTable(OfIds):
    """The IDs behind a number; a row is a drill_down.Row."""

    task = text("Task", "task_name", shown="name")
    minute = text("Minute", "minute_at", short="minute")
    status = text("Status", shown="nowrap")
    attempts = number("Attempts", short="attempts")

    class Meta(OfIds.Meta):
        pass

    def __init__(self, *args: Any, queues: dict[int, str], happened: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # happened: shown in place of a status.
        self.queues, self.happened = queues, happened

    def render_task(self, record: drill_down.Row) -> SafeString:
        return link(addresses.task(record.task_id), record.task_name)

    def render_minute(self, record: drill_down.Row) -> SafeString:
        queue = self.queues[record.queue_id]
        minute = link(addresses.minute(record.minute_at, queue), formatting.moment(record.minute_at))
        if record.to_minute is None:
            return minute
        destination = link(addresses.minute(record.to_minute, queue), formatting.moment(record.to_minute))
        return format_html("{} → {}", minute, destination)

    def render_status(self, value: models.Status | None) -> SafeString | str:
        return self.happened if value is None else _status(value)


class FailureTable(OfIds):
    """Failures, one by one, each of which can be left out of the retry; a row is a failures.Row."""

    task = text("Task", "task_name")
    answer = text("Answer", "http_status")
    attempts = number("Attempts", short="attempts")
    started = number("Started", "started_at", write=formatting.moment)
    leave_out = text("Leave out", "key", short="leave out")

    class Meta(OfIds.Meta):
        pass

    def __init__(self, *args: Any, left_out: Collection[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The keys of rows that are already ticked.
        self.left_out = left_out

    def render_task(self, record: failures.Row) -> SafeString:
        return link(addresses.task(record.task_id), record.task_name)

    def render_answer(self, record: failures.Row) -> SafeString:
        status = "none" if record.http_status is None else record.http_status
        return format_html('{} <span class="token">{}</span>', status, record.message)

    def render_leave_out(self, record: failures.Row) -> SafeString:
        # The label is as large as a thumb.
        box = (
            '<label class="tick"><input type="checkbox" name="left_out" value="{}" aria-label="Leave {} out"{}>'
            "</label>"
        )
        ticked = Markup(" checked") if record.key in self.left_out else ""
        return format_html(box, str(record.key), id_texts.shown(record.user_id, self.id_texts), ticked)


class RequestTable(OfIds):
    """The latest requests of a queue; a row is a request_log.Request."""

    started = text("Time", "started_at", shown="name nowrap")
    user_id = text("ID", short="ID")
    task = text("Task", "task_name", shown="whole")
    attempt = number("Attempt", "number", short="attempt")
    result = text("Result", "http_status")
    duration = number("Duration", "duration_ms", short="took")
    answer = text("Response", shown="token whole", short="response")

    class Meta(OfIds.Meta):
        sequence = ("started", "user_id", "...")

    def __init__(self, *args: Any, queue: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = queue

    def render_started(self, record: request_log.Request) -> SafeString:
        at = record.started_at
        time = f"{id_story.time_text(at, '%H:%M:%S')}.{at.microsecond // 1000:03d}"
        return link(addresses.minute(record.minute_at, self.queue), time)

    def render_task(self, record: request_log.Request) -> SafeString:
        return link(addresses.task(record.task_id), record.task_name)

    def render_result(self, record: request_log.Request) -> SafeString | str:
        status = "" if record.http_status is None else str(record.http_status)
        if record.is_unknown:
            return "not known: the process died"
        # The error that only repeats the status adds nothing.
        error = "" if record.error == f"answered {status}" else record.error
        words = ", ".join(filter(None, [status, "succeeded" if record.has_succeeded else "", error]))
        return (
            words if record.has_succeeded else format_html('<span class="bad">{}</span>', words or "failed")
        )

    def render_duration(self, value: int | None) -> str:
        return "" if value is None else f"{value:,} ms"

    def render_answer(self, value: str) -> str:
        return value if len(value) <= ANSWER_SHOWN else f"{value[:ANSWER_SHOWN]}…"


class QueueTable(Listed):
    """Queues; a row is a (queue, card of the filling window)."""

    name = text("Queue", "0__name", shown="name")
    state = text("State", "0")
    rpm = number("Requests per minute", "0__rpm", short="rpm")
    overflow = text("When a list doesn't fit", "0__overflow", shown="quiet")
    handler = text("Handler", "0__handler", shown="quiet")
    filling = number("Next quarter-hour", "1__filled", short="filling")
    peak = number(
        "Peak",
        "1__peak__filled",
        shown=lambda record: "number notice" if record[1].over else "number",
        short="peak",
    )

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_name(self, value: str) -> SafeString:
        return link(addresses.queue(value), value)

    def render_overflow(self, value: str) -> str:
        return choices.OVERFLOW[value]

    def render_state(self, value: models.Queue) -> SafeString:
        state, sign, css = "running", "▶", "good"
        if value.paused_at:
            state, sign, css = (
                format_html("paused since {}", formatting.moment(value.paused_at)),
                "‖",
                "notice",
            )
        elif value.brake_per_minute is not None:
            state, sign, css = f"brake: {value.brake_per_minute:,} a minute", "!", "notice"
        sign = format_html('<span class="sign" aria-hidden="true">{}</span>', sign)
        return format_html('<span class="{}">{}{}</span>', css, sign, state)

    def render_filling(self, record: tuple[models.Queue, cards.Card]) -> SafeString | str:
        queue, card = record
        if not card.filled:
            return formatting.number(0)
        return link(addresses.drill_down(queue.name, card.starts_at), formatting.number(card.filled))

    def render_peak(self, record: tuple[models.Queue, cards.Card]) -> SafeString | str:
        queue, card = record
        if not card.filled:
            return formatting.number(0)
        text = formatting.number(card.peak.filled)
        return link(addresses.minute(card.peak.minute, queue.name), text, "notice" if card.over else "")
