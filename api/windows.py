"""Windows and their buckets."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db.models import Q
from django.http import Http404, HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, ApiRequest
from api.endpoints import responses
from api.fields import Id
from api.openapi import describe
from api.problems import bad_parameter
from api.responses import json_response
from api.serializers import window_json
from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.reports import planning

router = Router(tags=["Windows"])


@router.get(
    "/windows/",
    auth=CAN_READ,
    response=responses(list[schemas.Window]),
    operation_id="list_windows",
    summary="Windows, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_windows(request: ApiRequest, filters: Query[schemas.WindowFilter]) -> HttpResponse:
    """Windows that have or had IDs, and the open and the running window even if they are empty."""
    at = store.now()
    queues = {queue.pk: queue for queue in models.Queue.objects.all()}
    if filters.queue is not None:
        queues = {pk: queue for pk, queue in queues.items() if queue.name == filters.queue}
        if not queues:
            raise bad_parameter("queue", f"There is no queue named {filters.queue}.")
    cursor = paging.read_cursor(request, filters.cursor)
    after = (datetime.fromisoformat(cursor[0]), cursor[1]) if cursor else None
    rows = _with_rows(queues, after, filters.limit + 1)
    windows = sorted([*rows, *_without_rows(queues, rows, after, at)], key=_sort_key, reverse=True)[
        : filters.limit + 1
    ]
    page = windows[: filters.limit]
    more = {}
    if len(windows) > len(page):
        starts_at, window_id = _sort_key(page[-1])
        more = paging.next_link(request, [starts_at.isoformat(), window_id])
    buckets = _buckets(page)
    planned = planning.by_window([window.pk for window in page])
    shown = [window_json(w, queues[w.queue_id], buckets, planned.get(w.pk), at=at) for w in page]
    return json_response(shown, headers=more)


def _sort_key(window: models.Window) -> tuple[datetime, int]:
    """Return the position of a window in the list: by time, then by key."""
    return window.starts_at, window.pk


def _with_rows(queues: Iterable[int], after: tuple[datetime, int] | None, count: int) -> list[models.Window]:
    windows = models.Window.objects.filter(queue_id__in=list(queues))
    if after is not None:
        starts_at, window_id = after
        windows = windows.filter(Q(starts_at__lt=starts_at) | Q(starts_at=starts_at, pk__lt=window_id))
    return list(windows.order_by("-starts_at", "-pk")[:count])


def _without_rows(
    queues: Iterable[int], rows: Iterable[models.Window], after: tuple[datetime, int] | None, at: datetime
) -> Iterator[models.Window]:
    """Yield the open and running windows that have no rows, unless a previous page has shown them."""
    windows = {
        keys.window_id(queue, starts_at): (queue, starts_at)
        for queue in queues
        for starts_at in (clock.open_window_start(at), clock.running_window_start(at))
    }
    existing = set(models.Window.objects.filter(pk__in=windows).values_list("pk", flat=True))
    for window_id, (queue, starts_at) in windows.items():
        if window_id not in existing and (after is None or (starts_at, window_id) < after):
            yield models.Window(pk=window_id, queue_id=queue, starts_at=starts_at)


def _buckets(windows: Iterable[models.Window]) -> dict[int, models.Bucket]:
    return {
        bucket.pk: bucket
        for bucket in models.Bucket.objects.filter(window_id__in=[window.pk for window in windows])
    }


@router.get(
    "/windows/{id:id}/",
    auth=CAN_READ,
    response=responses(schemas.Window, 404),
    operation_id="get_window",
    summary="One window",
)
def get_window(request: ApiRequest, id: Id) -> HttpResponse:
    """Empty if no ID was ever placed in it."""
    try:
        queue_id, starts_at = keys.queue_of_window(id), keys.starts_at_of_window(id)
    except ValueError:
        raise Http404(f"There is no window {id}.") from None
    queue = models.Queue.objects.filter(pk=queue_id).first()
    if queue is None:
        raise Http404(f"There is no window {id}.")
    window = models.Window.objects.filter(pk=id).first()
    window = window or models.Window(pk=id, queue_id=queue_id, starts_at=starts_at)
    planned = planning.by_window([id]).get(id)
    return json_response(window_json(window, queue, _buckets([window]), planned, at=store.now()))
