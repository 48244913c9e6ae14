"""Tables of plan checks: the checks that were made, and the differences that they found, with links."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import addresses, formatting
from dashboard.markup import join, markup
from dashboard.presenters import proof
from dashboard.tables.columns import CARDS, Listed, count, link, number, text
from scheduling import models
from scheduling.core import keys

_NAMED = re.compile(r"\b(task|window|bucket|ID) (\d+)")


def seconds_of(check: models.BulkAct) -> float | None:
    """Return how long a check took; None while it is in progress."""
    return (check.ended_at - check.began_at).total_seconds() if check.ended_at else None


def result(check: models.BulkAct) -> str:
    """Return the result of a check in words."""
    if check.found_count:
        return f"{formatting.plural(check.found_count, 'difference')} found"
    return "the plan was kept" if check.ended_at else "in progress"


class ChecksTable(Listed):
    """Checks of the plan; a row is a BulkAct."""

    began = text("Began", "began_at", shown="name")
    result = text("Result", "pk", shown="whole")
    ids = count("IDs", "done_count", short="IDs")
    took = number("Took", "pk", short="took")
    by = text("Requested by", "by__name", shown="quiet", short="by")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_began(self, record: models.BulkAct) -> SafeString:
        return link(f"?check={record.pk}", formatting.moment(record.began_at))

    def render_result(self, record: models.BulkAct) -> SafeString | str:
        text = result(record)
        return format_html('<span class="bad">{}</span>', text) if record.found_count else text

    def render_took(self, record: models.BulkAct) -> str:
        return formatting.duration(seconds_of(record))


def _mark(differences_count: int) -> SafeString:
    """How many differences there are, with a sign that needs no colour."""
    css, sign = ("bad", "✗") if differences_count else ("good", "✓")
    shown = '<span class="{}">{} <span class="sign" aria-hidden="true">{}</span></span>'
    return format_html(shown, css, formatting.number(differences_count), sign)


class PartsTable(Listed):
    """What a check looked at; a row is a presenters.proof.Part."""

    name = text("What was checked", shown="name")
    about = text("What has to hold", shown="quiet whole")
    checked = number("Checked", shown="number whole", short="checked", write=str)
    found = number("Differences", short="differences")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_found(self, record: proof.Part) -> SafeString | str:
        if record.is_done or record.found:
            return _mark(record.found)
        return "in progress" if record.checked else "not yet"


class CheckedWindowsTable(Listed):
    """Quarter-hours that were checked; a row is a presenters.proof.CheckedWindow."""

    runs = text("Runs", "runs_at", shown="name")
    queue = text("Queue", shown="quiet")
    first_planned = count("First planned", "planning__first_planned")
    cancelled = count("Cancelled", "planning__cancelled")
    moved_in = count("Moved in", "planning__moved_in")
    moved_out = count("Moved out", "planning__moved_out")
    requests_made = count("Requests made", "planning__requests_made")
    finished = count("Finished", "planning__finished")
    found = number("Differences", short="differences")

    class Meta(Listed.Meta):
        attrs = CARDS

    def render_runs(self, record: proof.CheckedWindow) -> SafeString | str:
        text = formatting.minute_text(record.runs_at)
        return link(addresses.window(record.queue, record.starts_at), text) if record.queue else text

    def render_found(self, value: int) -> SafeString:
        return _mark(value)


class DifferenceTable(Listed):
    """Differences that a check found; a row is a proof.Difference as a dict."""

    check = text("Difference", shown="name")
    of = text("Where", shown="whole")
    said = number("Recorded", short="recorded")
    found = number("Counted", short="counted")

    class Meta(Listed.Meta):
        attrs = CARDS

    def __init__(self, *args: Any, queues: Mapping[int, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queues = queues

    def render_of(self, value: str) -> SafeString:
        return join(markup("%s", piece) for piece in self._pieces(value))

    def _pieces(self, words: str) -> Iterator[str]:
        end = 0
        for match in _NAMED.finditer(words):
            yield words[end : match.start()]
            yield self._linked(match[1], int(match[2]))
            end = match.end()
        yield words[end:]

    def _linked(self, kind: str, key: int) -> str:
        """Link an object.

        Keys of windows and minutes mean nothing to people, so they are shown as what they stand for.
        """
        if kind == "task":
            return link(addresses.task(key), f"task {key}")
        if kind == "ID":
            return link(reverse("id", args=[key]), f"ID {key}")
        window_id = key if kind == "window" else keys.window_of_bucket(key)
        queue = self.queues.get(keys.queue_of_window(window_id), "")
        if kind == "window":
            starts_at = keys.starts_at_of_window(key)
            text = f"window of {queue} that took lists from {formatting.minute_text(starts_at)}"
            return link(addresses.window(queue, starts_at), text) if queue else text
        at = keys.minute_of_bucket(key)
        return link(addresses.minute(at, queue), f"minute {formatting.minute_text(at)} of {queue}")
