"""The IDs of a task in list order, as pages or as one stream; and everything known about one ID."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
import structlog
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, ApiRequest, check_sees_data
from api.endpoints import responses
from api.fields import Id
from api.openapi import describe
from api.problems import Problem
from api.responses import json_response, preferred_type
from api.tasks import find
from scheduling import models, store
from scheduling.core.cells import cell, data_cells
from scheduling.core.clock import iso
from scheduling.lists import external_ids, record_lists, stored_lists
from scheduling.reports import id_history, stories

router = Router(tags=["IDs"])
log = structlog.get_logger("api")

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
BLOCK = 5_000
# Of a stream: about as many rows as are sent in one piece, so that pages needn't wait for more.
BLOCK_OF_STREAM = 1_000
# With a filter, a page ends after this many positions, full or not, so that its cost is bounded.
POSITIONS_PER_PAGE = 100_000
RESULT_COLUMNS = ("http_status", "error", "answer")
ID_COLUMNS = ("user_id", "user_id_str", "external_id")
COLUMNS = (*ID_COLUMNS, "window", "bucket", "minute", "status", "attempts", "late_seconds")


@lru_cache(maxsize=16_384)
def _bucket_columns(bucket_id: int) -> tuple[str | None, int, str | None]:
    """Return window, bucket and minute as JSON values, which are the same for all IDs of a bucket."""
    place = id_history.Place(0, bucket_id, models.Status.WAITING)
    return iso(place.window_starts_at), place.index, iso(place.minute_at)


def id_json(user_id: int, external_id: str | None) -> dict[str, Any]:
    """An ID in its forms. A number that stands for an ID that is text is shown to nobody."""
    if user_id < 0:
        return {"user_id": None, "user_id_str": external_id, "external_id": external_id}
    return {"user_id": user_id, "user_id_str": str(user_id), "external_id": None}


def place_json(place: id_history.Place, external_id: str | None) -> dict[str, Any]:
    window, bucket, minute = _bucket_columns(place.bucket_id)
    return id_json(place.user_id, external_id) | {
        "window": window,
        "bucket": bucket,
        "minute": minute,
        "status": place.status.word,
        "attempts": place.attempts,
        "late_seconds": place.late_seconds,
    }


def _rows_of(
    task: models.Task,
    places: Iterable[id_history.Place],
    *,
    results: bool,
    data: bool,
    block_size: int = BLOCK,
) -> Iterator[dict[str, Any]]:
    """Each place as JSON; with `results`, along with the last response that is kept; with `data`, its data as text."""
    places = iter(places)
    while block := list(islice(places, block_size)):
        users = [place.user_id for place in block]
        last = id_history.last_attempts(task, users) if results else {}
        with_data = record_lists.of_task(task, users) if data else {}
        texts = external_ids.texts(users)
        for place in block:
            row = place_json(place, texts.get(place.user_id))
            if results:
                attempt = last.get(place.user_id, id_history.NO_ATTEMPT)
                row |= dict(zip(RESULT_COLUMNS, attempt, strict=True))
            if data:
                row["data"] = with_data.get(place.user_id)
            yield row


@router.get(
    "/celery_ids_tasks/{id:id}/ids/",
    auth=CAN_READ,
    response=responses(list[schemas.PlaceOfTask], 404, 406, 409),
    operation_id="list_ids_of_task",
    summary="A task's IDs in the order of its list",
    openapi_extra=describe(sent={200: ["Link"]}, media=[NDJSON, CSV]),
)
def list_ids(
    request: ApiRequest, id: Id, filters: Query[schemas.PlaceFilter]
) -> HttpResponse | StreamingHttpResponse:
    """JSON comes in pages. `Accept: application/x-ndjson` or `text/csv` streams all IDs.

    `status=failed` and `results=true` together say why IDs failed.
    """
    if filters.data:
        check_sees_data(request.caller)
    task = find(id)
    media = preferred_type(request, [JSON, NDJSON, CSV])
    if media is None:
        raise Problem("not-acceptable", f"Available are {JSON}, {NDJSON} and {CSV}.")
    first = _first_position(request, task, filters.cursor)
    if media != JSON:
        places = _all_places(task, filters, first)
        rows = _rows_of(task, places, results=filters.results, data=filters.data, block_size=BLOCK_OF_STREAM)
        columns = COLUMNS + RESULT_COLUMNS if filters.results else COLUMNS
        return _stream(task, media, rows, columns, (task.data_columns or []) if filters.data else [])
    limit = filters.limit or paging.MAX_LIMIT
    page: list[id_history.Place] = []
    position, at = first, store.now()
    block = BLOCK if filters.status else min(limit, BLOCK)
    for position, place in _positions(task, first, at, block=block, status=_status(filters)):
        if place is not None:
            page.append(place)
        if len(page) == limit or position - first >= POSITIONS_PER_PAGE:
            break
    length: int = models.IdList.objects.values_list("ids_count", flat=True).get(pk=task.list_id)
    more = paging.next_link(request, [task.list_id, position]) if position < length else {}
    shown = _rows_of(task, page, results=filters.results, data=filters.data)
    return json_response(list(map(_as_object, shown)), headers=more)


def _as_object(row: dict[str, Any]) -> dict[str, Any]:
    """Put the data of a row into it as they are stored: their numbers may have any length."""
    if row.get("data") is not None:
        row["data"] = orjson.Fragment(row["data"])
    return row


def _first_position(request: HttpRequest, task: models.Task, cursor: str | None) -> int:
    key = paging.read_cursor(request, cursor)
    if key is None:
        return 0
    list_id: int
    position: int
    list_id, position = key
    if list_id != task.list_id:
        raise Problem("conflict", "The task has a new list. Start again without a cursor.")
    return position


def _status(filters: schemas.PlaceFilter) -> models.Status | None:
    return models.Status.of_word(filters.status.value) if filters.status else None


def _positions(
    task: models.Task, first: int, at: datetime, *, block: int, status: models.Status | None
) -> Iterator[tuple[int, id_history.Place | None]]:
    """Yield each ID's place, or None if the filter excludes it, with the position after it."""
    position = first
    while users := stored_lists.ids_of(task.list_id, position, block):
        places = id_history.places(task, users, at=at, first_position=position, status=status)
        by_user = {place.user_id: place for place in places}
        for user in users:
            position += 1
            yield position, by_user.get(user)


def _all_places(task: models.Task, filters: schemas.PlaceFilter, first: int) -> Iterator[id_history.Place]:
    block = BLOCK if filters.status else BLOCK_OF_STREAM
    places = (
        place
        for _, place in _positions(task, first, store.now(), block=block, status=_status(filters))
        if place is not None
    )
    return islice(places, filters.limit)


def _stream(
    task: models.Task,
    media: str,
    rows: Iterable[dict[str, Any]],
    columns: Sequence[str],
    data_columns: Sequence[str],
) -> StreamingHttpResponse:
    """Return all rows. data_columns: of a CSV, whose rows have a cell for each."""
    if media == CSV:
        lines, ending = _csv_lines(rows, columns, data_columns), "csv"
    else:
        lines, ending = _ndjson_lines(rows), "ndjson"
    body = StreamingHttpResponse(_marked_if_cut_off(lines, media), content_type=media)
    body["Content-Disposition"] = f'attachment; filename="task-{task.pk}-ids.{ending}"'
    return body


def _ndjson_lines(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for row in rows:
        yield orjson.dumps(_as_object(row)) + b"\n"


def _csv_lines(
    rows: Iterable[dict[str, Any]], columns: Sequence[str], data_columns: Sequence[str]
) -> Iterator[bytes]:
    buffer = io.StringIO()
    write = csv.writer(buffer).writerow
    write([*columns, *(cell(f"data.{name}") for name in data_columns)])
    for row in rows:
        data = row.pop("data", None)
        values = [*row.values(), *(data_cells(data, data_columns) if data_columns else ())]
        # The others are numbers, times and our own words: none of them can be a formula.
        own = len(ID_COLUMNS)
        ids = values[:own] if row["external_id"] is None else map(cell, values[:own])
        write([*ids, *values[own : len(COLUMNS)], *map(cell, values[len(COLUMNS) :])])
        if buffer.tell() > 32_768:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _marked_if_cut_off(lines: Iterator[bytes], media: str) -> Iterator[bytes]:
    """Pass lines on. A stream that fails ends with a line that isn't valid, and with a connection error."""
    try:
        yield from lines
    except Exception:
        log.exception("stream_cut_off")
        yield (
            b'{"error": "cut off: this is not the whole list"}\n'
            if media == NDJSON
            else b"cut off: this is not the whole list\r\n"
        )
        raise


@router.get(
    "/ids/{external_id:user_id}/eta/",
    auth=CAN_READ,
    response=responses(schemas.Eta, 404),
    operation_id="get_eta",
    summary="The minute in which an ID is sent next",
)
def get_eta(request: ApiRequest, user_id: str, options: Query[schemas.IdType]) -> HttpResponse:
    """The response is small enough to be embedded in a page. It is 404 if no request for the ID is waiting."""
    number = number_in_path(user_id, options.id_type)
    if position := stories.next_minute(number, at=store.now()):
        task_id, minute = position
        shown = id_json(number, external_ids.texts([number]).get(number))
        if number > 0:
            del shown["external_id"]
        return json_response(shown | {"task_id": task_id, "minute": iso(minute)})
    raise Http404("No request for this ID is waiting.")


def number_in_path(written_id: str, id_type: str | None) -> int:
    """Return the number of an ID in a path; 0 for a text that was never received, if `id_type` says that it is text.

    Raises Http404 for what is neither a number nor a text that was received.
    """
    number = external_ids.number_of_written(written_id, id_type)
    if number is None:
        raise Http404(f"{written_id[:40]} is not an ID.")
    if not number and id_type is None:
        raise Http404("There is no such ID.")
    return number


@router.get(
    "/ids/{external_id:user_id}/",
    auth=CAN_READ,
    response=responses(list[schemas.Story], 404),
    operation_id="get_id",
    summary="Everything known about one ID, newest task first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def get_id(request: ApiRequest, user_id: str, page: Query[schemas.StoryPage]) -> HttpResponse:
    """Its places and attempts in each of its tasks, and what it waits for; [] for an ID that was never received.

    Percent-encode the ID. Digits are taken as a number, unless only a text of these digits was received. To choose,
    send `id_type`.
    """
    key = paging.read_cursor(request, page.cursor)
    before_task, at = key[0] if key else None, store.now()
    number = number_in_path(user_id, page.id_type)
    id_stories = (
        stories.stories(number, at=at, before_task=before_task, count=page.limit + 1) if number else []
    )
    external_id = external_ids.texts([number]).get(number)
    shown = id_stories[: page.limit]
    more = paging.next_link(request, [shown[-1].task.pk]) if len(id_stories) > len(shown) else {}
    return json_response([_story(story, external_id) for story in shown], headers=more)


def _story(story: stories.Story, external_id: str | None) -> dict[str, Any]:
    return place_json(story.place, external_id) | {
        "task_id": story.task.pk,
        "task_name": story.task.name,
        "queue": story.task.queue.name,
        "history": [
            {"at": iso(event.at), "event": event.kind}
            | {
                name: iso(value) if isinstance(value, datetime) else value
                for name, value in event.details.items()
            }
            for event in story.history
        ],
        "waits_for": story.waits_for,
    }
