"""The latest requests of a queue, with what is kept of their responses.

A request that succeeded at once is in its row alone, every other one, and each whose response is kept, in an attempt.
Four queries, each of which reads a range of keys: at most the last minutes in which the queue has sent something.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scheduling import models
from scheduling.core import clock, keys
from scheduling.models import Status

# Minutes that are looked into; how many requests have to be in them is `count`.
MINUTES = 100
# What is read of each table before it is ordered by time. In a minute with more, IDs that were sent after their turn
# may be missing.
READ = 2_000


@dataclass(frozen=True)
class Request:
    """A request. number: 1 for an ID's first one. started_at: rounded to milliseconds where no attempt is kept.

    has_succeeded: its ID has, by this request. is_unknown: its process died before the outcome was stored.
    duration_ms, http_status, error, answer: of the attempt that is kept.
    """

    task_id: int
    user_id: int
    number: int
    bucket_id: int
    started_at: datetime
    has_succeeded: bool
    is_unknown: bool = False
    duration_ms: int | None = None
    http_status: int | None = None
    error: str = ""
    answer: str = ""
    task_name: str = ""

    @property
    def key(self) -> tuple[int, int, int]:
        return self.task_id, self.user_id, self.number

    @property
    def minute_at(self) -> datetime:
        """Return the start of the minute that it belongs to."""
        return keys.minute_of_bucket(self.bucket_id)


def latest(queue: models.Queue, count: int, *, at: datetime) -> list[Request]:
    """Return the queue's latest requests, the newest first."""
    buckets = _buckets(queue, count, at)
    if not buckets:
        return []
    first, last = min(buckets), max(buckets)
    succeeded = {request.key: request for request in _succeeded(first, last)}
    attempts = {request.key: request for request in _attempts(first, last, succeeded.keys())}
    requests = sorted((succeeded | attempts).values(), key=lambda request: request.started_at, reverse=True)[
        :count
    ]
    tasks = models.Task.objects.filter(pk__in={request.task_id for request in requests})
    names = dict(tasks.values_list("pk", "name"))
    return [replace(request, task_name=names.get(request.task_id, "")) for request in requests]


def _buckets(queue: models.Queue, count: int, at: datetime) -> list[int]:
    """Return the latest minutes of the queue that have this many requests together."""
    first, last = keys.range_of_queue(queue.pk)[0], keys.bucket_at(queue.pk, clock.minute_start(at))
    sent = models.Bucket.objects.filter(pk__gte=first, pk__lte=last, started_count__gt=0).order_by("-pk")
    result = []
    for pk, started in sent.values_list("pk", "started_count")[:MINUTES]:
        if count <= 0:
            break
        result.append(pk)
        count -= started
    return result


def _succeeded(first: int, last: int) -> Iterator[Request]:
    """Yield the requests of IDs that have succeeded in these minutes."""
    first_key, last_key = keys.range_of_buckets(first, last)
    rows = models.Assignment.objects.filter(
        pk__gte=first_key, pk__lte=last_key, status=Status.SUCCEEDED, started_after_ms__isnull=False
    ).order_by("-pk")
    columns = rows.values_list("pk", "task_id", "user_id", "attempts", "started_after_ms")
    for key, task_id, user_id, number, started_ms in columns[:READ]:
        bucket = keys.bucket_of_assignment(key)
        started_at = keys.minute_of_bucket(bucket) + timedelta(milliseconds=started_ms or 0)
        yield Request(task_id, user_id, number, bucket, started_at, has_succeeded=True)


def _attempts(first: int, last: int, succeeded: Collection[tuple[int, int, int]]) -> Iterator[Request]:
    """Yield the requests of these minutes of which something is kept. succeeded: the keys of those that have."""
    attempts = models.Attempt.objects.filter(bucket_id__gte=first, bucket_id__lte=last)
    for attempt in attempts.order_by("-bucket_id", "-pk")[:READ]:
        key = attempt.task_id, attempt.user_id, attempt.number
        yield Request(
            *key,
            attempt.bucket_id,
            attempt.started_at,
            has_succeeded=key in succeeded and not attempt.unknown,
            is_unknown=attempt.unknown,
            duration_ms=attempt.duration_ms,
            http_status=attempt.http_status,
            error=attempt.error,
            answer=attempt.answer,
        )
