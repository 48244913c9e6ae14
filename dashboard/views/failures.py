"""Failures, grouped by response, and the retry of all that match."""

import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from dashboard import exports, id_texts
from dashboard.access import OperatorRequest, operator_required, viewer_required
from dashboard.formatting import plural
from dashboard.inputs import columns, parameters
from dashboard.inputs.filters import FailureFilter
from dashboard.inputs.forms import ConfirmForm
from dashboard.inputs.parameters import refuse_unknown
from dashboard.inputs.saved import opens_saved_views
from dashboard.tables import listings, totals
from dashboard.views import progress
from dashboard.views.progress import waiting_again
from scheduling import models, store
from scheduling.core.clock import iso
from scheduling.tasks import failures as failing
from scheduling.tasks import resend

ROWS = 50
# From this many uncounted failures on, they are counted and stored, which takes about as long as reading them.
KEPT_FROM = 5_000
KEEPING_SECONDS = 0.5
HEADS = ("user_id", "task_id", "task_name", "queue", "http_status", "message", "attempts", "started_at")
GROUP_HEADS = ("queue", "http_status", "message", "ids", "last_at")
# The most groups in a file: if every response differs, there are as many groups as IDs.
GROUPS_AT_MOST = 100_000


@require_http_methods(["GET", "HEAD", "POST"])
@viewer_required
@opens_saved_views
def failures(request: OperatorRequest) -> HttpResponseBase:
    """Show the groups and, with a filter, single failures. A POST retries what the page showed."""
    chosen = FailureFilter.of(request)
    if request.method == "POST":
        return _next_page(request, chosen) if "go_to" in request.POST else _retry(request, chosen)
    if export_format := request.GET.get("format"):
        return _export(export_format, exports.wanted_list(request, "ids", "groups"), chosen.selection())
    return _shown(request, chosen, at=store.now(), up_to=failing.newest())


def _next_page(request: OperatorRequest, chosen: FailureFilter) -> HttpResponseBase:
    """Show another page of the same list; the ticks are carried along."""
    at, up_to = parameters.read_moment(request.POST.get("at", "")), _number(request.POST, "up_to")
    left_out = _left_out(request, chosen.selection(at=at, up_to=up_to))
    after = _key(request.POST["go_to"])
    return _shown(request, chosen, at=at, up_to=up_to, after=after, left_out=left_out)


def _shown(
    request: OperatorRequest,
    chosen: FailureFilter,
    *,
    at: datetime,
    up_to: int | None,
    after: int = 0,
    left_out: Collection[int] = (),
) -> HttpResponseBase:
    """Show a page as of one moment, of the rows after a key.

    left_out: the keys that were ticked on earlier pages.
    """
    selection = chosen.selection(at=at, up_to=up_to)
    # Jobs do so each minute; if they don't, the first visitor counts for all.
    failing.keep_counts(at=at, seconds=KEEPING_SECONDS, unless_fewer=KEPT_FROM)
    summary = selection.summary(at_most=failing.GROUPS_SHOWN + 1)
    groups = [(group, _address(group)) for group in summary.groups[: failing.GROUPS_SHOWN]]
    rows = list(selection.rows(after=after, limit=ROWS + 1)) if chosen.is_set else []
    next_after, rows = rows[ROWS - 1].key if len(rows) > ROWS else None, rows[:ROWS]
    number = summary.count - len(left_out)
    shown = columns.choose(request, listings.FailureTable)
    context = {
        "filter": chosen,
        "groups": groups,
        "more_groups": len(summary.groups) > len(groups),
        "groups_table": totals.FailureGroupTable(groups),
        "rows": rows,
        "columns": shown,
        "table": listings.FailureTable(rows, left_out=left_out, exclude=shown.hidden),
        "count": summary.count,
        "number": number,
        "after": after,
        "next_after": next_after,
        "left_out_elsewhere": sorted(set(left_out) - {row.key for row in rows}),
        "at": at,
        "up_to": up_to,
        "form": ConfirmForm(count=number, always=not chosen.is_set),
        "under_way": progress.under_way(models.BulkActKind.RETRY_FAILED),
    }
    return render(request, "dashboard/failures.html", context)


def _export(form: str, content: str, selection: failing.FailureSelection) -> HttpResponseBase:
    if content == "ids":
        return exports.named(form, "failures", HEADS, id_texts.exported(selection.rows(), _row))
    groups = selection.summary(at_most=GROUPS_AT_MOST + 1).groups
    cut = f"the largest {GROUPS_AT_MOST:,} groups" if len(groups) > GROUPS_AT_MOST else ""
    rows = (
        (group.queue, group.http_status, group.message, group.count, iso(group.last_at))
        for group in groups[:GROUPS_AT_MOST]
    )
    return exports.named(form, "failure-groups", GROUP_HEADS, rows, cut=cut)


def _address(group: failing.Group) -> str:
    """Return the address of one group's page."""
    status = FailureFilter.NONE if group.http_status is None else group.http_status
    # An empty message counts, too: without it in the address, any message would match.
    query = urlencode({"queue": group.queue, "status": status, "message": group.message})
    return f"{reverse('failures')}?{query}"


def _row(row: failing.Row) -> list[Any]:
    return [
        row.task_id,
        row.task_name,
        row.queue,
        row.http_status,
        row.message,
        row.attempts,
        iso(row.started_at),
    ]


@operator_required
def _retry(request: OperatorRequest, chosen: FailureFilter) -> HttpResponseBase:
    at = parameters.read_moment(request.POST.get("at", ""))
    up_to = _number(request.POST, "up_to")
    selection = chosen.selection(at=at, up_to=up_to)
    left_out = _left_out(request, selection)
    count = selection.count()
    number = count - len(left_out)
    form = ConfirmForm(request.POST, count=number, always=not chosen.is_set)
    back = request.get_full_path()
    if count == _number(request.POST, "shown", count) and number != _number(request.POST, "number", count):
        # Without JavaScript, the button couldn't follow the ticks, so the right number has to be confirmed.
        return _asked_again(request, chosen, number, left_out)
    if count != _number(request.POST, "shown", count):
        # Somebody else was faster. Question, progress and result must give one number, so the question is asked
        # again.
        remaining = f"{plural(count, 'ID')} still match{'es' if count == 1 else ''}"
        messages.error(
            request, f"Nothing was retried, because the list has changed: {remaining}. Look again."
        )
        return redirect(back)
    if not number:
        messages.info(request, "Nothing was retried: these failures no longer exist.")
        return redirect(back)
    if not form.is_valid():
        messages.error(request, f"Nothing was retried. To confirm, type {form.expected:,}.")
        return redirect(back)
    run = secrets.token_hex(6)
    retried = resend.retry(
        selection, left_out=left_out, number=number, run=run, by=request.actor, now=store.now
    )
    if not retried.continues:
        messages.success(request, _result(retried.ids_count, number, chosen, up_to))
        return redirect(back)
    return redirect(chosen.address(reverse("retrying"), run=run))


def _left_out(request: OperatorRequest, selection: failing.FailureSelection) -> list[int]:
    """Return the ticked keys that are among the matching rows, and those of people who were erased since."""
    ticked = selection.among({_key(text) for text in request.POST.getlist("left_out")})
    return sorted(ticked | resend.erased_failures(selection))


def _key(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise BadRequest(f"left_out: {text[:40]!r} is not the key of a row.")
    return int(text)


def _asked_again(
    request: OperatorRequest, chosen: FailureFilter, number: int, left_out: list[int]
) -> HttpResponseBase:
    if not number:
        messages.info(request, "Nothing was retried: all of them are left out.")
        return redirect(request.get_full_path())
    context = {
        "number": number,
        "left_out": left_out,
        "carried": {name: request.POST.get(name, "") for name in ("at", "up_to", "shown")},
        "form": ConfirmForm(count=number, always=not chosen.is_set),
        "back": request.get_full_path(),
    }
    return render(request, "dashboard/failures_retry.html", context)


def _result(done: int, number: int, chosen: FailureFilter, up_to: int | None) -> str:
    result = f"{waiting_again(done)}."
    if done < number:
        result = f"{done:,} of {waiting_again(number)}."
    newer = chosen.selection().count() - chosen.selection(up_to=up_to).count()
    if not newer:
        return result
    return f"{result} {plural(newer, 'newer failure')} match{'es' if newer == 1 else ''} this filter."


@require_http_methods(["GET", "HEAD"])
@viewer_required
def retrying(request: OperatorRequest) -> HttpResponseBase:
    """Show the progress of a retry."""
    chosen = FailureFilter(request.GET)
    refuse_unknown(request, {*chosen.fields, "run"})
    chosen.refuse_faults()
    run = progress.named(request.GET.get("run", ""))
    newer = 0
    if run.ended_at:
        up_to = run.asked.get("matching", {}).get("up_to")
        newer = chosen.selection().count() - chosen.selection(up_to=up_to).count()
    return progress.page(request, run, back=chosen.address(reverse("failures")), newer=newer)


def _number(query: QueryDict, name: str, default: int | None = None) -> int | None:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadRequest(f"{name}: {text[:40]!r} is not a number.")
    return int(text)
