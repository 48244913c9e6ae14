"""How the pages write numbers, times and states, and what every page has in its head."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from django import template
from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from dashboard import acts, addresses, drawings, menu, svg, words
from dashboard.access import REASONS
from operators.roles import Permission
from scheduling.core import clock as clocks
from scheduling.parsing import WARNINGS

register = template.Library()


@register.filter
def number(value: int | None) -> str:
    """12480 as 12,480. For counts; IDs are text and never have separators."""
    return "" if value is None else f"{value:,}"


@register.filter
def plural(count: int | None, word: str) -> str:
    """`1 ID`, `2 IDs`; irregular ones as `reply/replies`."""
    one, _, many = word.partition("/")
    return f"{count or 0:,} {one if count == 1 else many or one + 's'}"


@register.filter
def percent(part: int, whole: int) -> str:
    """For a drawing: part of whole, 0 to 100, with two decimals."""
    return f"{100 * part / whole:.2f}" if whole else "0"


def _time(at: datetime | None, form: str) -> str:
    return "" if at is None else marked_up(at, form, timezone.get_current_timezone())


@lru_cache(maxsize=8192)
def marked_up(at: datetime, form: str, zone: ZoneInfo) -> SafeString:
    """A time in a zone, exact on hover. Kept, since a board says the same times again each second."""
    local, utc = at.astimezone(zone), at.astimezone(UTC)
    # A page has a hundred of them: what says nothing is left out.
    fraction = f".{at.microsecond // 1000:03d}" if at.microsecond else ""
    beside = "" if str(zone) == "UTC" else f" ({utc:%H:%M:%S} UTC)"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        f"{utc:%Y-%m-%dT%H:%M:%S}{fraction}Z",
        f"{local:%Y-%m-%d %H:%M:%S}{fraction} {zone}{beside}",
        local.strftime(form),
    )


@register.filter
def clock(at: datetime | None) -> str:
    """14:22 in the operator's zone, exact on hover."""
    return _time(at, "%H:%M")


@register.filter
def clock_seconds(at: datetime | None) -> str:
    """14:22:38 in the operator's zone."""
    return _time(at, "%H:%M:%S")


@register.filter
def moment(at: datetime | None) -> str:
    """The time, and the day where it isn't today."""
    return "" if at is None else _time(at, _form_of_moment(at))


def _form_of_moment(at: datetime) -> str:
    return "%H:%M" if timezone.localtime(at).date() == timezone.localdate() else "%-d %b %Y, %H:%M"


def minute_said(at: datetime) -> str:
    """The same as plain text, for a whole minute in a long list: there is nothing more exact to say."""
    return f"{timezone.localtime(at):{_form_of_moment(at)}}"


@register.filter
def day(at: Any) -> str:
    """Wednesday 25 November 2026."""
    local = timezone.localtime(at) if isinstance(at, datetime) else at
    return f"{local:%A} {local.day} {local:%B %Y}"


@register.filter
def seconds(value: float | None) -> str:
    """A span in words: 0.4 s, 38 s, 7 min, 3.2 h, 3.9 days."""
    return "" if value is None else words.span(value)


@register.filter
def span_said(value: timedelta) -> str:
    """15 minutes, 6 hours, 7 days."""
    return words.length(value // timedelta(minutes=1))


@register.simple_tag
def zone_name() -> str:
    """The operator's zone, by name."""
    return timezone.get_current_timezone_name()


@register.simple_tag
def instance_label() -> str:
    """Which instance this is, where the deployment says so."""
    return format_html(" <small>{}</small>", settings.INSTANCE_LABEL) if settings.INSTANCE_LABEL else ""


@register.simple_tag(takes_context=True)
def sections(context: dict) -> list[dict]:
    """The menu, with the section that is open."""
    request = context["request"]
    current = menu.current(request.path)
    return [
        {
            "name": section.name,
            "href": reverse(section.url),
            "current": section is current,
            "why_not": "" if request.user.may(section.needs) else REASONS[section.needs],
        }
        for section in menu.SECTIONS
    ]


@register.simple_tag(takes_context=True)
def why_not(context: dict, act: str = "act") -> str:
    """Why the operator may not act; empty if they may. For the `title` of a disabled button."""
    return "" if context["request"].user.may(Permission(act)) else REASONS[Permission(act)]


@register.simple_tag
def problem_id() -> str:
    """By what an error is found again in the logs."""
    return structlog.contextvars.get_contextvars().get("request_id", "")


@register.simple_tag(takes_context=True)
def with_query(context: dict, **changes: Any) -> str:
    """The page's own query with some parameters changed; None takes one away."""
    query = context["request"].GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = value
    return f"?{query.urlencode()}" if query else "?"


@register.filter
def compact(count: int) -> str:
    """A number that fits a narrow place: 12.5k."""
    return drawings.compact(count)


@register.simple_tag
def minute_url(at: datetime, queue_name: str = "") -> str:
    """The page of a minute, of one queue or of all."""
    return addresses.minute(at, queue_name)


@register.simple_tag
def held_url(queue_name: str, starts_at: datetime, kind: str = "") -> SafeString:
    """The list of a window's IDs of a kind."""
    return mark_safe(addresses.held(queue_name, starts_at) + kind)


@register.filter
def epoch_ms(at: datetime | None) -> str:
    """For the scripts that let clocks and ages tick."""
    return "" if at is None else str(int(at.timestamp() * 1000))


@register.filter
def countdown(until: datetime, at: datetime) -> str:
    """7:22."""
    left = max(0, int((until - at).total_seconds()))
    return f"{left // 60}:{left % 60:02d}"


@register.filter
def lag(value: float | None) -> str:
    """How long after its beginning a minute began: "on time", or by how much it didn't."""
    if value is None:
        return ""
    if value <= 0:
        return "on time"
    if value < 1:
        return f"{value * 1000:.{1 if value < 0.01 else 0}f} ms after its time"
    return f"{words.span(value)} after its time"


@register.simple_tag
def plot(
    chart: drawings.Chart, name: str, prefix: str, queue_name: str = "", task_id: int | None = None
) -> str:
    """Bars against their capacity."""
    return svg.plot(chart, name=name, prefix=prefix, queue_name=queue_name, task_id=task_id)


PROGRESS = ("succeeded", "failed", "expired", "in_flight")


@register.simple_tag
def progress(task: Any) -> str:
    """The bar of a task, or of a line of the board: what became of its IDs, next to each other."""
    ids = getattr(task, "ids", None)
    if ids is None:
        counts, ids, sent = (
            [(kind, getattr(task, f"{kind}_count")) for kind in PROGRESS],
            task.ids_count,
            task.sent_count,
        )
    else:
        counts, sent = [(kind, getattr(task, kind)) for kind in PROGRESS], task.sent
    return svg.progress(drawings.shares(counts, ids), said=f"{sent:,} of {ids:,} sent", key=f"p-{task.pk}")


@register.simple_tag(takes_context=True)
def in_admin(context: dict, kind: str, key: int) -> str:
    """The admin's page of a row of ours, `scheduling_task`; empty for those who may not see it there."""
    app, model = kind.split("_")
    seen = context["request"].user.has_perm(f"{app}.view_{model}")
    return reverse(f"admin:{kind}_change", args=[key]) if seen else ""


@register.filter
def task_url(task_id: int) -> str:
    """A task's page."""
    return addresses.task(task_id)


@register.filter
def size(count: int | None) -> str:
    """Bytes: 312 kB."""
    return words.size(count or 0)


@register.filter
def stamp(at: datetime | None) -> str:
    """A minute as it stands in an address."""
    return "" if at is None else addresses.stamp(at)


@register.filter
def local_input(at: datetime | None) -> str:
    """What a field for date and time holds, in the operator's zone."""
    return "" if at is None else f"{timezone.localtime(at):%Y-%m-%dT%H:%M}"


@register.filter
def warnings(counts: dict[str, int]) -> list[tuple[str, int]]:
    """What was trimmed or read so: each kind's sentence with its count."""
    return [(WARNINGS.get(kind, kind), count) for kind, count in counts.items()]


@register.filter
def hour_mark(at: datetime) -> str:
    """14:17, as plain text for a drawing."""
    return f"{timezone.localtime(at):%H:%M}"


@register.filter
def spoken(verb: str) -> str:
    """`cancelled_matching` as it is read."""
    return verb.replace("_", " ")


@register.filter
def text(user_id: int) -> str:
    """An ID as text: no separators, and nothing that a script would round."""
    return str(user_id)


@register.filter
def queue_url(name: str) -> str:
    """A queue's page."""
    return reverse("queue", args=[name])


@register.filter
def changes(act: Any) -> list[SafeString]:
    """What an act changed, in pieces."""
    return acts.changes(act)


@register.filter
def face(act: Any) -> str:
    """By which door an act came."""
    return acts.face(act)


@register.filter
def kind_of_thing(word: str) -> str:
    """What the log's kinds of things are called."""
    return acts.KINDS.get(word, word)


@register.filter
def told(event: Any) -> str:
    """An event of an ID's story, as a sentence."""
    from dashboard.views.ids import sentence

    return sentence(event)


@register.filter
def clock_milliseconds(at: datetime | None) -> str:
    """14:22:38.104 in the operator's zone."""
    return "" if at is None else f"{timezone.localtime(at):%H:%M:%S}.{at.microsecond // 1000:03d}"


@register.filter
def label(starts_at: datetime) -> str:
    """A window by the time in which it runs: 14:15 to 14:30."""
    runs_at = timezone.localtime(clocks.runs_at(starts_at))
    return f"{runs_at:%H:%M} to {runs_at + clocks.QUARTER:%H:%M}"


@register.filter
def has_any(queues: list) -> bool:
    """Whether one of the (queue, counts) holds an ID."""
    return any(counts.filled for _, counts in queues)


@register.filter
def lower_first(said: str) -> str:
    """A sentence that goes on another one."""
    return said[:1].lower() + said[1:]
