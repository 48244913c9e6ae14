"""The IDs of a task in the order of its list, as pages or as one stream; and all that is known of one ID."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
import structlog
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Query, Router

from scheduling import models, store
from scheduling.lists import stored_lists
from scheduling.reports import id_history

from . import paging, schemas
from .answers import answer
from .auth import READERS, ApiRequest
from .endpoints import answers
from .openapi import describe
from .plans import moment
from .problems import Problem
from .tasks import find

router = Router(tags=["IDs"])
log = structlog.get_logger("api")

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
BLOCK = 5_000
# A page under a filter ends after so many positions, full or not: what it costs doesn't grow with the list.
SCANNED_A_PAGE = 100_000
COLUMNS = ("user_id", "user_id_str", "window", "bucket", "minute", "status", "attempts", "late_seconds")


@lru_cache(maxsize=16_384)
def _where(bucket_id: int) -> tuple[str | None, int, str | None]:
    """Window, bucket and minute as they are written: the same for all IDs of a bucket."""
    place = id_history.Place(0, bucket_id, models.Status.WAITING)
    return moment(place.window_starts_at), place.index, moment(place.minute_at)


def place_answer(place: id_history.Place) -> dict[str, Any]:
    window, bucket, minute = _where(place.bucket_id)
    return {
        "user_id": place.user_id,
        "user_id_str": str(place.user_id),
        "window": window,
        "bucket": bucket,
        "minute": minute,
        "status": place.status.word,
        "attempts": place.attempts,
        "late_seconds": place.late_seconds,
    }


@router.get(
    "/celery_ids_tasks/{id:id}/ids/",
    auth=READERS,
    response=answers(list[schemas.Place], 404, 406, 409),
    operation_id="list_ids_of_task",
    summary="A task's IDs in the order of its list",
    openapi_extra=describe(sent={200: ["Link"]}, media=[NDJSON, CSV]),
)
def list_ids(request: ApiRequest, id: schemas.Id, filters: Query[schemas.PlaceFilter]) -> HttpResponse:
    """As JSON in pages; `Accept: application/x-ndjson` or `text/csv` streams all of them."""
    task = find(id)
    kind = request.get_preferred_type([JSON, NDJSON, CSV])
    if kind is None:
        raise Problem("not-acceptable", f"There are {JSON}, {NDJSON} and {CSV}.")
    first = _begin(request, task, filters.cursor)
    if kind != JSON:
        return _stream(task, kind, _all(task, filters, first))
    limit = filters.limit or paging.LARGEST_PAGE
    page: list[id_history.Place] = []
    position, at = first, store.now()
    block = BLOCK if filters.status else min(limit, BLOCK)
    for position, place in _walk(task, first, at, block=block, status=_status(filters)):
        if place is not None:
            page.append(place)
        if len(page) == limit or position - first >= SCANNED_A_PAGE:
            break
    length = models.IdList.objects.values_list("ids_count", flat=True).get(pk=task.list_id)
    more = {"Link": paging.link(request, [task.list_id, position])} if position < length else {}
    return answer([place_answer(place) for place in page], **more)


def _begin(request: HttpRequest, task: models.Task, cursor: str | None) -> int:
    begun = paging.begin(request, cursor)
    if begun is None:
        return 0
    list_id, position = begun
    if list_id != task.list_id:
        raise Problem("conflict", "The task got a new list meanwhile; begin again without a cursor.")
    return position


def _status(filters: schemas.PlaceFilter) -> models.Status | None:
    return models.Status.of_word(filters.status.value) if filters.status else None


def _walk(
    task: models.Task, first: int, at: datetime, *, block: int, status: models.Status | None
) -> Iterator[tuple[int, id_history.Place | None]]:
    """Yield the position behind each ID, from a position on, and its place; None where it isn't asked for."""
    position = first
    while users := stored_lists.ids_of(task.list_id, position, block):
        found = id_history.places(task, users, at=at, first_position=position, status=status)
        by_user = {place.user_id: place for place in found}
        for user in users:
            position += 1
            yield position, by_user.get(user)


def _all(task: models.Task, filters: schemas.PlaceFilter, first: int) -> Iterator[id_history.Place]:
    places = (
        place
        for _, place in _walk(task, first, store.now(), block=BLOCK, status=_status(filters))
        if place is not None
    )
    return islice(places, filters.limit)


def _stream(task: models.Task, kind: str, places: Iterable[id_history.Place]) -> StreamingHttpResponse:
    lines, name = (_csv_lines, "csv") if kind == CSV else (_ndjson_lines, "ndjson")
    body = StreamingHttpResponse(_visibly_cut(lines(places), kind), content_type=kind)
    body["Content-Disposition"] = f'attachment; filename="task-{task.pk}-ids.{name}"'
    return body


def _ndjson_lines(places: Iterable[id_history.Place]) -> Iterator[bytes]:
    for place in places:
        yield orjson.dumps(place_answer(place)) + b"\n"


def _csv_lines(places: Iterable[id_history.Place]) -> Iterator[bytes]:
    # Numbers, times and our own words: no cell can begin a formula.
    line = io.StringIO()
    write: Callable = csv.writer(line).writerow
    write(COLUMNS)
    for place in places:
        write(place_answer(place).values())
        if line.tell() > 32_768:
            yield line.getvalue().encode()
            line.seek(0)
            line.truncate()
    yield line.getvalue().encode()


def _visibly_cut(lines: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """Pass lines on; what breaks off ends with a line that is none, and with an error of the connection."""
    try:
        yield from lines
    except Exception:
        log.exception("stream_cut_off")
        yield (
            b'{"error": "cut off: this is not the whole list"}\n'
            if kind == NDJSON
            else b"cut off: this is not the whole list\r\n"
        )
        raise


@router.get(
    "/ids/{id:user_id}/",
    auth=READERS,
    response=answers(list[schemas.Story], 404),
    operation_id="get_id",
    summary="All that is known of one ID, newest task first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def get_id(request: ApiRequest, user_id: schemas.Id, page: Query[schemas.StoryPage]) -> HttpResponse:
    """Its places and attempts in each of its tasks, and what it waits for; [] for one that never came."""
    begun = paging.begin(request, page.cursor)
    stories = id_history.story(
        user_id, at=store.now(), before_task=begun[0] if begun else None, count=page.limit + 1
    )
    shown = stories[: page.limit]
    more = {"Link": paging.link(request, [shown[-1].task.pk])} if len(stories) > len(shown) else {}
    return answer([_story(story) for story in shown], **more)


def _story(story: id_history.Story) -> dict[str, Any]:
    return place_answer(story.place) | {
        "task_id": story.task.pk,
        "task_name": story.task.name,
        "queue": story.task.queue.name,
        "history": [
            {"at": moment(event.at), "event": event.kind}
            | {
                name: moment(value) if isinstance(value, datetime) else value
                for name, value in event.details.items()
            }
            for event in story.history
        ],
        "waits_for": story.waits_for,
    }
