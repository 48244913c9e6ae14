"""The outcomes of IDs in the order in which they were committed: what an integration reads instead of each ID."""

import re
from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, ApiRequest
from api.endpoints import responses
from api.ids import id_json
from api.openapi import describe
from api.problems import bad_parameter
from api.responses import json_response
from scheduling import models
from scheduling.core.clock import iso
from scheduling.lists import external_ids
from scheduling.reports import outcomes

router = Router(tags=["IDs"])

# The installation, the entry, the key. Nothing in it is secret: it only has to be recognized.
_CURSOR = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,19})-([0-9]{1,19})")


@router.get(
    "/outcomes/",
    auth=CAN_READ,
    response=responses(list[schemas.Outcome]),
    operation_id="list_outcomes",
    summary="The outcomes of IDs, oldest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_outcomes(request: ApiRequest, filters: Query[schemas.OutcomeFilter]) -> HttpResponse:
    """In the order in which they were committed. Each is listed at least once, and none is skipped.

    Every response has a `next` link, which continues after the last row.
    """
    part = models.Installation.current().key_part
    queue_id, task = _queue(filters), _task(filters)
    after = _position(filters.after, part)
    # Read before the page, so that the page has all entries up to this one.
    newest = outcomes.newest_entry() if filters.wait else 0
    page = outcomes.read(after, limit=filters.limit, queue_id=queue_id, task=task)
    rows = _rows(page.rows, part)
    response = json_response(rows, headers=paging.next_with(request, "after", _cursor(part, page.end)))
    if page.is_last and not rows and filters.wait:
        awaited = outcomes.Awaited(queue_id if task is None else task.queue_id, newest, filters.wait)
        response.awaited = awaited  # type: ignore[attr-defined]  # for runner.web, which looks for it
    return response


def _queue(filters: schemas.OutcomeFilter) -> int | None:
    if filters.queue is None:
        return None
    queue_id = models.Queue.objects.filter(name=filters.queue).values_list("pk", flat=True).first()
    if queue_id is None:
        raise bad_parameter("queue", f"There is no queue named {filters.queue}.")
    return queue_id


def _task(filters: schemas.OutcomeFilter) -> models.Task | None:
    if filters.task is None:
        return None
    task = models.Task.objects.only("queue_id", "created_at").filter(pk=filters.task).first()
    if task is None:
        raise bad_parameter("task", f"There is no task {filters.task}.")
    return task


def _position(cursor: str | None, part: str) -> outcomes.Position:
    if cursor is None:
        return outcomes.BEGINNING
    match = _CURSOR.fullmatch(cursor)
    if match is None or max(int(match[2]), int(match[3])) > models.MAX_ID:
        raise bad_parameter("after", "This is not a cursor of this service.")
    if match[1] != part:
        raise bad_parameter(
            "after",
            "This cursor belongs to another installation, or to the time before a backup was restored. "
            "Read from the beginning, without `after`.",
        )
    return outcomes.Position(int(match[2]), int(match[3]))


def _cursor(part: str, position: outcomes.Position) -> str:
    return f"{part}-{position.entry_id}-{position.key}"


def _rows(page: Sequence[outcomes.Outcome], part: str) -> list[dict[str, Any]]:
    queues = dict(
        models.Queue.objects.filter(pk__in={row.queue_id for row in page}).values_list("pk", "name")
    )
    texts = external_ids.texts(row.user_id for row in page)
    return [
        {
            "cursor": _cursor(part, row.position),
            "at": iso(row.at),
            "task_id": row.task_id,
            "queue": queues[row.queue_id],
            **id_json(row.user_id, texts.get(row.user_id)),
            "status": row.status.word,
            "attempts": row.attempts,
            **row.result._asdict(),
        }
        for row in page
    ]
