"""What became of requests: kept as they are, failed for good, or given another minute."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from scheduling import models, store
from scheduling.core import clock, retry
from scheduling.core.limits import ERROR_CHARACTERS
from scheduling.dispatch.messages import ClassifiedResults, RequestResult, Result, Retry
from scheduling.handlers.base import Outcome, truncate
from scheduling.models import MoveReason, Status
from scheduling.placement import ledger, moves, reservations

log = structlog.get_logger(__name__)


def classify(
    came: Sequence[RequestResult], queues: Mapping[int, models.Queue], *, minute: datetime, at: datetime
) -> ClassifiedResults:
    """Tell what is kept from what is tried again. minute: its start. at: when this is looked at."""
    result = ClassifiedResults()
    for item in came:
        claimed, outcome = item.scheduled.claim, item.outcome
        if outcome is None or item.started is None:
            # Not made in time, or not for its own fault: no attempt.
            result.results.append(Result(claimed, Status.WAITING))
            continue
        started_ms = max(0, round(item.started * 1000))
        attempt = _attempt(item, outcome, minute)
        if outcome.verdict == retry.Verdict.SUCCEEDED:
            noted = attempt if outcome.error else None
            result.results.append(Result(claimed, Status.SUCCEEDED, started_ms, noted))
        elif (
            outcome.verdict == retry.Verdict.FAILED
            or claimed.attempts + 1 >= queues[item.scheduled.queue_id].max_attempts
        ):
            result.results.append(Result(claimed, Status.FAILED, started_ms, attempt))
        elif outcome.retry_in_this_minute:
            result.results.append(Result(claimed, Status.WAITING, started_ms, attempt))
        else:
            hold = retry.retry_after_seconds(outcome.status, outcome.retry_after, at=at)
            due = retry.due_at(
                at,
                attempts=claimed.attempts + 1,
                random=random.random(),
                not_before=None if hold is None else at + timedelta(seconds=hold),
            )
            result.retries.append(Retry(claimed, started_ms, attempt, due))
    return result


def _attempt(item: RequestResult, outcome: Outcome, minute: datetime) -> models.Attempt:
    claimed = item.scheduled.claim
    return models.Attempt(
        task_id=claimed.task_id,
        user_id=claimed.user_id,
        number=claimed.attempts + 1,
        bucket_id=claimed.bucket_id,
        started_at=minute + timedelta(seconds=item.started or 0),
        duration_ms=outcome.duration_ms,
        http_status=outcome.status,
        answer=truncate(outcome.answer),
        error=truncate(outcome.error, ERROR_CHARACTERS),
    )


def place_retries(queue_id: int, items: Sequence[Retry], owner: int, now: Callable[[], datetime]) -> None:
    """Give what is tried again of a queue the first free places from when it is due: one transaction."""
    with store.write():
        queue = reservations.lock_queue(queue_id)
        buckets = sorted({item.claim.bucket_id for item in items})
        list(
            models.Bucket.objects.select_for_update().filter(pk__in=buckets).order_by("pk").values_list("pk")
        )
        at = now()
        batches = models.Batch.objects.filter(pk__in={item.claim.batch_id for item in items}, owner=owner)
        mine = set(batches.select_for_update().order_by("pk").values_list("pk", flat=True))
        # What was lost meanwhile is another's: it is counted as a possible repeat there.
        items = [item for item in items if item.claim.batch_id in mine]
        tasks = ledger.lock_tasks({item.claim.task_id for item in items})
        again = [item for item in items if tasks[item.claim.task_id].cancelled_at is None]
        ended = [item for item in items if tasks[item.claim.task_id].cancelled_at is not None]
        _keep_attempts(again, Status.IN_FLIGHT)
        _keep_attempts(ended, Status.FAILED)
        for from_minute, rows in sorted(_by_minute(again, at).items()):
            moves.move(
                queue, rows, from_minute=from_minute, reason=MoveReason.RETRY, was=Status.IN_FLIGHT, at=at
            )


def _keep_attempts(items: Sequence[Retry], status: Status) -> None:
    rows = [(item.claim.key, int(status), item.claim.attempts + 1, item.started_after_ms) for item in items]
    if store.set_outcomes(rows, was=Status.IN_FLIGHT) != len(rows):
        raise RuntimeError(f"{len(rows)} rows were in flight, and not all are")
    counters = ledger.Counters()
    for item in items:
        counters.started(item.claim.bucket_id)
        if status != Status.IN_FLIGHT:
            counters.change(item.claim.task_id, item.claim.bucket_id, Status.IN_FLIGHT, status)
    counters.write()
    models.Attempt.objects.bulk_create(item.attempt for item in items)


def _by_minute(items: Sequence[Retry], at: datetime) -> dict[datetime, list[moves.Row]]:
    """By the first minute that begins once the ID is due."""
    rows: dict[datetime, list[moves.Row]] = defaultdict(list)
    for item in items:
        claimed = item.claim
        first = max(clock.minute_start(item.due_at) + clock.MINUTE, clock.next_unsealed_minute(at))
        rows[first].append(moves.Row(claimed.key, claimed.user_id, claimed.task_id, claimed.attempts + 1))
    return rows
