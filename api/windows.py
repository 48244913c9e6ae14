"""Windows and their buckets."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from django.db.models import Q
from django.http import Http404, HttpResponse
from ninja import Query, Router

from scheduling import models, store
from scheduling.core import clock, keys

from . import paging, schemas
from .answers import answer
from .auth import READERS, ApiRequest
from .endpoints import answers
from .openapi import describe
from .problems import bad_parameter
from .renders import window_answer

router = Router(tags=["Windows"])


@router.get(
    "/windows/",
    auth=READERS,
    response=answers(list[schemas.Window]),
    operation_id="list_windows",
    summary="Windows, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_windows(request: ApiRequest, filters: Query[schemas.WindowFilter]) -> HttpResponse:
    """Those that hold or held something; and the one that fills and the one that runs, empty or not."""
    at = store.now()
    queues = {queue.pk: queue for queue in models.Queue.objects.all()}
    if filters.queue is not None:
        queues = {pk: queue for pk, queue in queues.items() if queue.name == filters.queue}
        if not queues:
            raise bad_parameter("queue", f"there is no queue named {filters.queue}")
    begun = paging.begin(request, filters.cursor)
    behind = (datetime.fromisoformat(begun[0]), begun[1]) if begun else None
    rows = _rows(queues, behind, filters.limit + 1)
    windows = sorted([*rows, *_empty(queues, rows, behind, at)], key=_place, reverse=True)[
        : filters.limit + 1
    ]
    page = windows[: filters.limit]
    more = {}
    if len(windows) > len(page):
        starts_at, window_id = _place(page[-1])
        more = {"Link": paging.link(request, [starts_at.isoformat(), window_id])}
    buckets = _buckets(page)
    return answer([window_answer(w, queues[w.queue_id], buckets, at=at) for w in page], **more)


def _place(window: models.Window) -> tuple[datetime, int]:
    """Where a window is in the list: by time, then by key."""
    return window.starts_at, window.pk


def _rows(queues: Iterable[int], behind: tuple[datetime, int] | None, count: int) -> list[models.Window]:
    windows = models.Window.objects.filter(queue_id__in=list(queues))
    if behind is not None:
        starts_at, window_id = behind
        windows = windows.filter(Q(starts_at__lt=starts_at) | Q(starts_at=starts_at, pk__lt=window_id))
    return list(windows.order_by("-starts_at", "-pk")[:count])


def _empty(
    queues: Iterable[int], rows: Iterable[models.Window], behind: tuple[datetime, int] | None, at: datetime
) -> Iterator[models.Window]:
    """Windows of now that have no rows, as far as the page before hasn't passed them."""
    wanted = {
        keys.window_id(queue, starts_at): (queue, starts_at)
        for queue in queues
        for starts_at in (clock.open_window_start(at), clock.running_window_start(at))
    }
    there = set(models.Window.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    for window_id, (queue, starts_at) in wanted.items():
        if window_id not in there and (behind is None or (starts_at, window_id) < behind):
            yield models.Window(pk=window_id, queue_id=queue, starts_at=starts_at)


def _buckets(windows: Iterable[models.Window]) -> dict[int, models.Bucket]:
    return {
        bucket.pk: bucket
        for bucket in models.Bucket.objects.filter(window_id__in=[window.pk for window in windows])
    }


@router.get(
    "/windows/{id:id}/",
    auth=READERS,
    response=answers(schemas.Window, 404),
    operation_id="get_window",
    summary="One window",
)
def get_window(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    """Empty where nothing was ever placed in it."""
    try:
        queue_id, starts_at = keys.queue_of_window(id), keys.starts_at_of_window(id)
    except ValueError:
        raise Http404(f"There is no window {id}.") from None
    queue = models.Queue.objects.filter(pk=queue_id).first()
    if queue is None:
        raise Http404(f"There is no window {id}.")
    window = models.Window.objects.filter(pk=id).first()
    window = window or models.Window(pk=id, queue_id=queue_id, starts_at=starts_at)
    return answer(window_answer(window, queue, _buckets([window]), at=store.now()))
