"""What becomes of IDs whose requests were made: succeeded, failed for good, or sent again in another minute."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from scheduling import models, store
from scheduling.core import clock, retry
from scheduling.core.limits import ERROR_CHARACTERS
from scheduling.dispatch import targets
from scheduling.dispatch.messages import Claim, ClassifiedResults, RequestResult, Result, Retry
from scheduling.handlers.base import Outcome, truncate
from scheduling.models import MoveReason, Status
from scheduling.placement import ledger, moves, reservations


def classify(
    answered: Sequence[RequestResult], queues: Mapping[int, models.Queue], *, minute: datetime, at: datetime
) -> ClassifiedResults:
    """Tell what is recorded as it is from what is sent again in another minute.

    minute: its start. at: when this is looked at.
    """
    classified = ClassifiedResults()
    for item in answered:
        claim, outcome = item.scheduled.claim, item.outcome
        if outcome is None or item.started is None:
            # Not made in time, or for no fault of its own: no attempt.
            classified.results.append(Result(claim, Status.WAITING))
            continue
        started_ms = max(0, round(item.started * 1000))
        attempt = _attempt(item, outcome, minute)
        status = _status(outcome, claim, queues[item.scheduled.queue_id])
        if status is None:
            due = _due_at(outcome, claim, queues[item.scheduled.queue_id], at)
            classified.retries.append(Retry(claim, started_ms, attempt, due))
            continue
        # Of a success only what is remarkable about it.
        remarkable = status != Status.SUCCEEDED or outcome.error or outcome.keep_answer
        classified.results.append(Result(claim, status, started_ms, attempt if remarkable else None))
    return classified


def _status(outcome: Outcome, claim: Claim, queue: models.Queue) -> Status | None:
    """Return what becomes of an ID whose request was made; None: it is sent again in another minute."""
    if outcome.verdict == retry.Verdict.SUCCEEDED:
        return Status.SUCCEEDED
    if outcome.verdict == retry.Verdict.FAILED or claim.attempts + 1 >= queue.max_attempts:
        return Status.FAILED
    # Nobody has booked another start: with a quota, it needs a minute whose period has room.
    return Status.WAITING if outcome.retry_in_this_minute and not queue.quotas else None


def _due_at(outcome: Outcome, claim: Claim, queue: models.Queue, at: datetime) -> datetime:
    if outcome.retry_in_this_minute:
        return at
    wait = retry.retry_after_seconds(outcome.status, outcome.retry_after, at=at)
    return retry.due_at(
        at,
        attempts=claim.attempts + 1,
        random=random.random(),
        not_before=None if wait is None else at + timedelta(seconds=wait),
        delays=queue.retry_delays_minutes,
    )


def _attempt(item: RequestResult, outcome: Outcome, minute: datetime) -> models.Attempt:
    claim = item.scheduled.claim
    return models.Attempt(
        task_id=claim.task_id,
        user_id=claim.user_id,
        number=claim.attempts + 1,
        bucket_id=claim.bucket_id,
        started_at=minute + timedelta(seconds=item.started or 0),
        duration_ms=outcome.duration_ms,
        http_status=outcome.status,
        answer=truncate(outcome.answer),
        error=truncate(outcome.error, ERROR_CHARACTERS),
    )


def place_retries(queue_id: int, items: Sequence[Retry], owner: int, now: Callable[[], datetime]) -> None:
    """Give the retries of a queue the first free places from when they are due: one transaction."""
    with store.write():
        queue = reservations.lock_queue(queue_id)
        bucket_ids = sorted({item.claim.bucket_id for item in items})
        buckets = models.Bucket.objects.select_for_update().filter(pk__in=bucket_ids).order_by("pk")
        list(buckets.values_list("pk"))
        at = now()
        batches = models.Batch.objects.filter(pk__in={item.claim.batch_id for item in items}, owner=owner)
        owned = set(batches.select_for_update().order_by("pk").values_list("pk", flat=True))
        # What was lost meanwhile is another worker's: there it is counted as a possible repeat.
        items = [item for item in items if item.claim.batch_id in owned]
        tasks = ledger.lock_tasks({item.claim.task_id for item in items})
        cancelled = {task_id for task_id, task in tasks.items() if task.cancelled_at is not None}
        _record_attempts([item for item in items if item.claim.task_id in cancelled], Status.FAILED)
        again = [item for item in items if item.claim.task_id not in cancelled]
        _record_attempts(again, Status.IN_FLIGHT)
        earliest = targets.first_minute(queue, at)
        for from_minute, rows in sorted(_rows_by_minute(again, earliest).items()):
            moves.move(
                queue, rows, from_minute=from_minute, reason=MoveReason.RETRY, was=Status.IN_FLIGHT, at=at
            )


def _record_attempts(items: Sequence[Retry], status: Status) -> None:
    rows = [(item.claim.key, int(status), item.claim.attempts + 1, item.started_after_ms) for item in items]
    store.set_outcomes(rows, was=Status.IN_FLIGHT)
    counters = ledger.Counters()
    for item in items:
        counters.started(item.claim.bucket_id)
        if status != Status.IN_FLIGHT:
            counters.change(item.claim.task_id, item.claim.bucket_id, Status.IN_FLIGHT, status)
    counters.write()
    models.Attempt.objects.bulk_create(item.attempt for item in items)


def _rows_by_minute(items: Sequence[Retry], earliest: datetime) -> dict[datetime, list[moves.Row]]:
    """Return the rows by the first minute that begins once they are due."""
    rows: dict[datetime, list[moves.Row]] = defaultdict(list)
    for item in items:
        claim = item.claim
        first = max(clock.minute_start(item.due_at) + clock.MINUTE, earliest)
        rows[first].append(moves.Row(claim.key, claim.user_id, claim.task_id, claim.attempts + 1))
    return rows
