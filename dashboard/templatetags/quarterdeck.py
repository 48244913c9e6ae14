"""Template tags and filters: the formats of formatting.py, and what the head of every page needs."""

from datetime import datetime
from typing import Any

import structlog
from django import template
from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import addresses, formatting, menu
from dashboard.access import REASONS
from dashboard.drawing import charts, svg
from dashboard.inputs import choices, saved
from dashboard.markup import EMPTY, Markup, markup
from dashboard.presenters import activity, id_story
from operators.models import SavedView
from operators.roles import Permission
from scheduling.parsing import WARNINGS
from scheduling.reports import cards, days

register = template.Library()

for function in (
    formatting.clock, formatting.clock_milliseconds, formatting.clock_seconds, formatting.compact,
    formatting.countdown, formatting.day, formatting.duration, formatting.epoch_ms, formatting.hour_mark,
    formatting.lag, formatting.local_input, formatting.lower_first, formatting.minute_text, formatting.moment,
    formatting.number,
    formatting.percent, formatting.plural, formatting.size, formatting.as_words, formatting.text,
    formatting.whole_minutes, formatting.window_label, formatting.window_moment, activity.changes, activity.face,
    id_story.attempts_text, id_story.sentence,
):  # fmt: skip
    register.filter(function.__name__, function)

register.filter("task_url", addresses.task)
register.filter("queue_url", addresses.queue)
register.simple_tag(addresses.minute, name="minute_url")
register.simple_tag(addresses.drill_down, name="drill_down_url")
register.simple_tag(timezone.get_current_timezone_name, name="zone_name")
register.simple_tag(svg.task_progress, name="progress")


@register.filter
def stamp(at: datetime | None) -> str:
    """A minute as it is written in an address."""
    return "" if at is None else addresses.stamp(at)


@register.filter
def warnings(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return a sentence and a count for each kind of trimming or conversion while the list was read."""
    return [(WARNINGS.get(kind, kind), count) for kind, count in counts.items()]


@register.filter
def first_and_last(about: dict[str, Any], count: int) -> str:
    """Return the first and the last IDs of a list, none of them twice: "1, 2, 3 … 8, 9"."""
    first, last = about["first"], about["last"]
    rest = last[max(0, len(first) + len(last) - count) :]
    gap = " … " if count > len(first) + len(rest) else ", "
    return ", ".join(first) + (gap + ", ".join(rest) if rest else "")


@register.filter
def object_kind_name(word: str) -> str:
    """Return the name of a kind of object in the activity log."""
    return choices.KINDS.get(word, word)


@register.filter
def has_any(queues: list[tuple[Any, cards.Minute]]) -> bool:
    """Return whether one of the (queue, counts) has an ID."""
    return any(counts.filled for _, counts in queues)


@register.simple_tag
def instance_label() -> str:
    """Draw the name of this instance, if the deployment sets one."""
    return format_html(" <small>{}</small>", settings.INSTANCE_LABEL) if settings.INSTANCE_LABEL else ""


@register.simple_tag
def instance_name() -> str:
    """The same for the page's title, which tells tabs apart."""
    return f" {settings.INSTANCE_LABEL}" if settings.INSTANCE_LABEL else ""


@register.simple_tag(takes_context=True)
def sections(context: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the menu, with the current section marked."""
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
def why_not(context: dict[str, Any], act: str = "act") -> str:
    """Return why the operator may not act; empty if they may. For the `title` of a disabled button."""
    return "" if context["request"].user.may(Permission(act)) else REASONS[Permission(act)]


@register.simple_tag
def csrf_cookie_name() -> str:
    """Return the name of the cookie whose value scripts send as the form's token."""
    return settings.CSRF_COOKIE_NAME


@register.simple_tag
def problem_id() -> str:
    """Return the ID by which an error is found in the logs."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


@register.simple_tag(takes_context=True)
def with_query(context: dict[str, Any], **changes: Any) -> str:
    """Return the page's own query with some parameters changed; None removes one."""
    query = context["request"].GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = value
    return f"?{query.urlencode()}" if query else "?"


@register.simple_tag(takes_context=True)
def other_parameters(context: dict[str, Any], *names: str) -> list[tuple[str, str]]:
    """The parameters of the page's address but these, and but the place in the list."""
    left_out = {*names, "before", "after", "format"}
    parameters = context["request"].GET.lists()
    return [(name, value) for name, values in parameters if name not in left_out for value in values]


@register.simple_tag(takes_context=True)
def saved_views(context: dict[str, Any], page: str) -> dict[str, Any]:
    """The views that the operator saved of a page; and the filter that is set now, and whether it is one of them."""
    request = context["request"]
    query = saved.filter_of(request.META["QUERY_STRING"])
    views = [
        {
            "pk": view.pk,
            "name": view.name,
            "href": f"{reverse(page)}?{view.query}",
            "is_current": view.query == query,
        }
        for view in SavedView.objects.filter(operator=request.user, page=page)
    ]
    return {"views": views, "query": query, "is_saved": any(view["is_current"] for view in views)}


@register.simple_tag
def plot(
    chart: charts.Chart, name: str, prefix: str, queue_name: str = "", task_id: int | None = None
) -> SafeString:
    """Draw bars against their capacity."""
    return svg.plot(chart, name=name, prefix=prefix, queue_name=queue_name, task_id=task_id)


@register.simple_tag(takes_context=True)
def export_links(context: dict[str, Any], **changes: Any) -> Markup:
    """Draw links to everything that the page lists, as files: with its filters, without its paging."""
    same = {"before": None, "after": None, "size": None, **changes}
    csv, ndjson = (with_query(context, format=form, **same) for form in ("csv", "ndjson"))
    return markup('<a href="%s">CSV</a> · <a href="%s">NDJSON</a>', csv, ndjson)


@register.simple_tag
def disabled(*reasons: str) -> Markup:
    """Return the attributes that disable a button, with the first reason given; nothing if there is none."""
    reason = next(filter(None, reasons), "")
    return markup(' disabled title="%s"', reason) if reason else EMPTY


@register.simple_tag
def link_if(is_link: Any, address: str, label: Any) -> Markup:
    """Draw a link if it leads to something, else its label alone."""
    return markup('<a href="%s">%s</a>', address, label) if is_link else markup("%s", label)


@register.simple_tag
def key(css: str) -> Markup:
    """Draw the sample of a colour for a legend."""
    return markup(
        '<svg class="key" aria-hidden="true"><rect class="%s" width="12" height="12" rx="2"/></svg>', css
    )


@register.simple_tag
def heat_column(column: days.Column, image: str, queue_name: str) -> Markup:
    """Draw a column of the heat map: a link that sends the position of the click."""
    if not column.filled:
        return Markup("<i></i>")
    stamp = addresses.stamp(column.runs_at)
    address = reverse("cell_of_all", args=[stamp])
    if queue_name:
        address = reverse("cell", args=[queue_name, stamp])
    ids = f"{formatting.plural(column.filled, 'ID')}, {column.sent:,} sent"
    failed = f", {column.failed:,} failed" if column.failed else ""
    title = f"{formatting.hour_mark(column.runs_at)}: {ids}{failed}"
    return markup('<a href="%s" title="%s"><img ismap src="%s" alt=""></a>', address, title, image)


@register.simple_tag(takes_context=True)
def in_admin(context: dict[str, Any], kind: str, key: int) -> str:
    """Return the address of a row's page in the admin, such as `scheduling_task`; empty for operators who may
    not see it.
    """
    app, model = kind.split("_")
    may_view = context["request"].user.has_perm(f"{app}.view_{model}")
    return reverse(f"admin:{kind}_change", args=[key]) if may_view else ""
