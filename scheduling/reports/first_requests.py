"""The first requests of a list as they would go out: what a preview and a dry run show."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scheduling import models
from scheduling.core import exact_json, keys
from scheduling.core.errors import Refused
from scheduling.handlers.base import Request
from scheduling.handlers.shown_request import Sent, shown
from scheduling.handlers.webhook import Webhook
from scheduling.lists import external_ids
from scheduling.lists.record_lists import StoredRecords
from scheduling.placement import reservations

COUNT = 3
# Stands in for the number of a task that doesn't exist yet: no task has it.
TASK_ID = 0


@dataclass(frozen=True)
class FirstId:
    """One of the first IDs of a list. external_id: of an ID that is text. data: the columns that travel with it."""

    user_id: int
    external_id: str | None = None
    data: Mapping[str, Any] | None = None


def of_draft(draft: models.IdList) -> list[FirstId]:
    """Return the first IDs of a stored list, with their data."""
    ids, packed = next(StoredRecords(draft).records(COUNT), (array("q"), None))
    texts = external_ids.texts(ids)
    data = [None] * len(ids) if packed is None else [exact_json.read(value.decode()) for value in packed]
    return [FirstId(user, texts.get(user), value) for user, value in zip(ids, data, strict=True)]


@dataclass(frozen=True)
class PlannedRequest:
    """A request that would be made. sent: None where it can't be made, for the reason in `error`."""

    request: Request
    sent: Sent | None
    error: str = ""


def first_requests(
    queue: models.Queue, plan: reservations.Plan, ids: Sequence[FirstId], *, task_name: str
) -> list[PlannedRequest]:
    """Return the requests of the first IDs of a list, by its plan. None of a queue that calls nothing by HTTP."""
    if queue.handler != models.HandlerKind.WEBHOOK:
        return []
    handler = Webhook.of(queue)
    key_part = models.Installation.current().key_part
    requests = []
    for first_id, bucket_id in zip(ids[:COUNT], reservations.buckets_in_order(queue, plan), strict=False):
        request = Request(
            user_id=first_id.user_id,
            task_id=TASK_ID,
            task_name=task_name,
            queue=queue.name,
            planned_at=keys.minute_of_bucket(bucket_id),
            attempt=1,
            key_part=key_part,
            external_id=first_id.external_id,
            data=first_id.data,
        )
        try:
            sent = shown(handler, handler.message_of(request), signature=False)
        except Refused as error:
            requests.append(PlannedRequest(request, None, str(error)))
        else:
            requests.append(PlannedRequest(request, sent))
    return requests
