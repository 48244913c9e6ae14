"""The page of a minute, with its IDs; and of a window, with its receipt."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.core.exceptions import BadRequest
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from dashboard import addresses, exports, id_texts
from dashboard.access import OperatorRequest, viewer_required
from dashboard.drawing import charts
from dashboard.inputs import columns
from dashboard.inputs.parameters import COLUMNS, refuse_unknown, whole_number
from dashboard.presenters import window_log
from dashboard.tables import listings, totals
from scheduling import models, store
from scheduling.core import clock, keys, pacing
from scheduling.core.clock import iso
from scheduling.placement import shapes
from scheduling.reports import cards, minute_rows, planning
from scheduling.store.blocks import in_blocks

ROWS = 60
CHANGES_SHOWN = 100
QUEUES = 12
ALL = "*"
# The totals of a receipt: the kind of the list (there is none of starts), and its label.
TOTALS = (
    *((word, word, word) for word in ("succeeded", "failed")),
    ("moved_late", "late", "late"),
    ("moved", "moved out", "moved"),
    *((word, word, word) for word in ("cancelled", "expired")),
    ("repeats", "possible repeats", "possible_repeats"),
)
EXPORT_HEADS = (
    "user_id", "task_id", "queue", "minute", "status", "attempts", "planned_at", "started_at", "late_seconds",
)  # fmt: skip
# Of a receipt, beside what was planned.
RECEIPT_COUNTS = ("succeeded", "failed", "late", "expired", "possible_repeats")
CHANGE_HEADS = (
    "version", "made_at", "kind", "task_id", "task_name", "ids", "rpm", "fill_before", "deltas", "note",
)  # fmt: skip


def _moment(stamp: str) -> datetime:
    try:
        at = addresses.read_stamp(stamp)
    except ValueError:
        raise Http404("A minute's address is like 2026-11-25T12:17Z.") from None
    if not clock.EPOCH + clock.QUARTER <= at < datetime(2089, 1, 1, tzinfo=clock.EPOCH.tzinfo):
        raise Http404("That minute is out of range.")
    return at


def _queues(request: OperatorRequest) -> list[models.Queue]:
    name = request.GET.get("queue", ALL)
    queues = list(models.Queue.objects.all() if name == ALL else models.Queue.objects.filter(name=name))
    if not queues:
        raise BadRequest(f"There is no queue named {name!r}.")
    return queues


@require_safe
@viewer_required
def minute(request: OperatorRequest, stamp: str) -> HttpResponseBase:
    """Show a minute's counts by queue, and its IDs; with `format`, the IDs as a file."""
    refuse_unknown(request, {"queue", "after", "format", COLUMNS})
    at = _moment(stamp)
    queues = _queues(request)
    ids = {keys.bucket_at(queue.pk, at): queue for queue in queues}
    now = store.now()
    if export_format := request.GET.get("format"):
        exported = id_texts.exported(minute_rows.rows(sorted(ids), at=now), lambda row: _export(row, ids))
        return exports.named(export_format, f"minute-{stamp.replace(':', '')}", EXPORT_HEADS, exported)
    buckets = {bucket.pk: bucket for bucket in models.Bucket.objects.filter(pk__in=ids)}
    after = whole_number(request, "after")
    rows = list(minute_rows.rows(sorted(ids), at=now, after=after, at_most=ROWS + 1))
    counts = [(queue, _counts(buckets.get(pk), queue, at)) for pk, queue in ids.items()]
    # Of many queues, only those with IDs in the minute.
    listed = counts if len(counts) <= QUEUES else [each for each in counts if any(each[1][2:])]
    shown = columns.choose(request, listings.MinuteTable)
    context = {
        "minute": at,
        "queues": counts,
        "idle": len(counts) - len(listed),
        "reasons": [
            (queue.name, reason)
            for queue, minute in listed
            if (reason := shapes.reason_at(queue, at, minute.capacity))
        ],
        "counts_table": totals.MinuteOfQueuesTable(
            listed, window=clock.quarter_start(at) - clock.QUARTER, is_over=at < clock.minute_start(now)
        ),
        "planning": planning.total(
            planning.by_minute([keys.window_of_bucket(pk) for pk in ids], [_index_of(at)]).values()
        ),
        "queue_name": request.GET.get("queue", ALL),
        "rows": rows,
        "columns": shown,
        "table": listings.MinuteTable(rows[:ROWS], exclude=shown.hidden),
        "next_after": rows[ROWS - 1].key if len(rows) > ROWS else None,
        "previous": at - clock.MINUTE,
        "following": at + clock.MINUTE,
    }
    return render(request, "dashboard/minute.html", context)


def _index_of(at: datetime) -> int:
    return (at - clock.quarter_start(at)) // clock.MINUTE


def _counts(bucket: models.Bucket | None, queue: models.Queue, at: datetime) -> cards.Minute:
    if bucket is None:
        return cards.Minute(at, shapes.capacity_at(queue, at))
    kinds = (*(status.word for status in models.Status), "moved")
    return cards.Minute(at, bucket.capacity, **{kind: getattr(bucket, f"{kind}_count") for kind in kinds})


def _export(row: minute_rows.Row, ids: dict[int, models.Queue]) -> list[Any]:
    bucket = keys.bucket_of_assignment(row.key)
    return [
        row.task.pk,
        ids[bucket].name,
        iso(keys.minute_of_bucket(bucket)),
        row.status.word,
        row.attempts,
        *(iso(at, "milliseconds") for at in (row.planned_at, row.started_at)),
        row.late_seconds,
    ]


@require_safe
@viewer_required
def window(request: OperatorRequest, name: str, stamp: str) -> HttpResponseBase:
    """Show a window: its bars, its receipt, and every change of its fill; with `format`, as files."""
    refuse_unknown(request, {"format", "list"})
    queue = get_object_or_404(models.Queue, name=name)
    starts_at = _moment(stamp)
    if clock.quarter_start(starts_at) != starts_at:
        raise Http404("A window begins at minute 0, 15, 30 or 45.")
    pk = keys.window_id(queue.pk, starts_at)
    row = models.Window.objects.filter(pk=pk).first()
    if export_format := request.GET.get("format"):
        return _export_of_window(export_format, exports.wanted_list(request, "receipt", "changes"), pk, row)
    buckets = {bucket.index: bucket for bucket in models.Bucket.objects.filter(window_id=pk)}
    minutes = [_counts(buckets.get(k), queue, at) for k, at in enumerate(clock.minutes(starts_at))]
    at = store.now()
    receipt = row.receipt if row else None
    card = cards.Card(starts_at, tuple(minutes))
    reservations = list(_changes(pk)[:CHANGES_SHOWN])
    planned = planning.by_minute([pk])
    current = planning.total(planned.values())
    moved_since = current.moved_out - receipt["moved"] if receipt else 0
    context = {
        "queue": queue,
        "window": row,
        "card": card,
        "state": clock.state(starts_at, at),
        "label": clock.label(starts_at),
        "chart": charts.chart(minutes, now=clock.minute_start(at)),
        "planning": current,
        "receipt": receipt,
        "receipt_table": totals.ReceiptTable(
            _receipt_rows(pk, receipt, planned), queue=queue.name, has_lists=not moved_since
        )
        if receipt
        else None,
        # The lists have what is there now: where that is something else, no number leads to them.
        "totals": [("" if moved_since else kind, word, receipt[key]) for kind, word, key in TOTALS]
        if receipt
        else (),
        "moved_since": moved_since,
        "totalled_at": row.totalled_at if row else None,
        "changes": window_log.grouped(reservations),
        "is_cut": row is not None and row.version > len(reservations),
        "changes_shown": len(reservations),
        "previous": starts_at - clock.QUARTER,
        "following": starts_at + clock.QUARTER,
        "allowed": pacing.most_starts_in_60_seconds(queue.rpm),
    }
    return render(request, "dashboard/window.html", context)


def _receipt_rows(
    window_id: int, receipt: dict[str, Any], planned: Mapping[int, planning.Planning]
) -> list[tuple[dict[str, Any], planning.Planning]]:
    """The minutes of a receipt, each with what was planned for it, all as it was when the receipt was made."""
    buckets = keys.buckets_of_window(window_id)
    rows = []
    for minute, bucket in zip(receipt["minutes"], buckets, strict=True):
        of_bucket = planned.get(bucket, planning.Planning())
        finished = minute["succeeded"] + minute["failed"] + minute["expired"]
        rows.append((minute, replace(of_bucket, moved_out=minute["moved"], finished=finished)))
    return rows


def _changes(window_id: int) -> QuerySet[Any]:
    """Yield every change of the window's fill, the latest first, with the `task_name` of its task."""
    names = models.Task.objects.filter(pk=OuterRef("task_id")).values("name")
    rows = models.Reservation.objects.filter(window_id=window_id).order_by("-version")
    return rows.annotate(task_name=Coalesce(Subquery(names), Value("")))


def _export_of_window(form: str, content: str, pk: int, window: models.Window | None) -> HttpResponseBase:
    if content == "changes":
        changes = map(_row_of_change, in_blocks(_changes(pk)))
        return exports.named(form, f"window-{pk}-changes", CHANGE_HEADS, changes)
    if window is None or not window.receipt:
        raise BadRequest("The quarter-hour isn't totalled yet, so there is no receipt to export.")
    heads = ("minute", *planning.NAMES, *RECEIPT_COUNTS)
    rows = (
        [minute["minute"], *planned.values, *(minute.get(name) for name in RECEIPT_COUNTS)]
        for minute, planned in _receipt_rows(pk, window.receipt, planning.by_minute([pk]))
    )
    return exports.named(form, f"window-{pk}-receipt", heads, rows)


def _row_of_change(change: Any) -> list[Any]:
    return [
        change.version, iso(change.made_at), change.kind, change.task_id, change.task_name,
        change.ids_count, change.rpm, change.fill_before, change.deltas, change.note,
    ]  # fmt: skip
