"""What became of requests: kept as they are, failed for good, or given another minute."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from scheduling import models, store
from scheduling.core import clock, retry
from scheduling.core.limits import ERROR_CHARACTERS
from scheduling.dispatch.claims import Claimed, Kept
from scheduling.dispatch.sender import Came
from scheduling.handlers.base import Outcome, truncate
from scheduling.models import MoveReason, Status
from scheduling.placement import ledger, moves, reservations

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Retry:
    """An ID whose request failed and is to be made again from `due_at` on."""

    claimed: Claimed
    started_after_ms: int
    attempt: models.Attempt
    due_at: datetime


@dataclass
class Sorted:
    kept: list[Kept] = field(default_factory=list)
    retries: list[Retry] = field(default_factory=list)


def sort_out(
    came: Sequence[Came], queues: Mapping[int, models.Queue], *, minute: datetime, at: datetime
) -> Sorted:
    """Tell what is kept from what is tried again. minute: its start. at: when this is looked at."""
    result = Sorted()
    for item in came:
        claimed, outcome = item.due.claimed, item.outcome
        if outcome is None or item.started is None:
            # Not made in time, or not for its own fault: no attempt.
            result.kept.append(Kept(claimed, Status.WAITING))
            continue
        started_ms = max(0, round(item.started * 1000))
        attempt = _attempt(item, outcome, minute)
        if outcome.verdict == retry.Verdict.SUCCEEDED:
            noted = attempt if outcome.error else None
            result.kept.append(Kept(claimed, Status.SUCCEEDED, started_ms, noted))
        elif (
            outcome.verdict == retry.Verdict.FAILED
            or claimed.attempts + 1 >= queues[item.due.queue_id].max_attempts
        ):
            result.kept.append(Kept(claimed, Status.FAILED, started_ms, attempt))
        elif outcome.retry_in_this_minute:
            result.kept.append(Kept(claimed, Status.WAITING, started_ms, attempt))
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


def _attempt(item: Came, outcome: Outcome, minute: datetime) -> models.Attempt:
    claimed = item.due.claimed
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
        buckets = sorted({item.claimed.bucket_id for item in items})
        list(
            models.Bucket.objects.select_for_update().filter(pk__in=buckets).order_by("pk").values_list("pk")
        )
        at = now()
        batches = models.Batch.objects.filter(pk__in={item.claimed.batch_id for item in items}, owner=owner)
        mine = set(batches.select_for_update().order_by("pk").values_list("pk", flat=True))
        # What was lost meanwhile is another's: it is counted as a possible repeat there.
        items = [item for item in items if item.claimed.batch_id in mine]
        tasks = ledger.lock_tasks({item.claimed.task_id for item in items})
        again = [item for item in items if tasks[item.claimed.task_id].cancelled_at is None]
        ended = [item for item in items if tasks[item.claimed.task_id].cancelled_at is not None]
        _keep_attempts(again, Status.IN_FLIGHT)
        _keep_attempts(ended, Status.FAILED)
        for from_minute, rows in sorted(_by_minute(again, at).items()):
            moves.move(
                queue, rows, from_minute=from_minute, reason=MoveReason.RETRY, was=Status.IN_FLIGHT, at=at
            )


def _keep_attempts(items: Sequence[Retry], status: Status) -> None:
    rows = [
        (item.claimed.key, int(status), item.claimed.attempts + 1, item.started_after_ms) for item in items
    ]
    if store.set_outcomes(rows, was=Status.IN_FLIGHT) != len(rows):
        raise RuntimeError(f"{len(rows)} rows were in flight, and not all are")
    counters = ledger.Counters()
    for item in items:
        counters.started(item.claimed.bucket_id)
        if status != Status.IN_FLIGHT:
            counters.change(item.claimed.task_id, item.claimed.bucket_id, Status.IN_FLIGHT, status)
    counters.write()
    models.Attempt.objects.bulk_create(item.attempt for item in items)


def _by_minute(items: Sequence[Retry], at: datetime) -> dict[datetime, list[moves.Row]]:
    """By the first minute that begins once the ID is due."""
    rows: dict[datetime, list[moves.Row]] = defaultdict(list)
    for item in items:
        claimed = item.claimed
        first = max(clock.minute_start(item.due_at) + clock.MINUTE, clock.next_unsealed_minute(at))
        rows[first].append(moves.Row(claimed.key, claimed.user_id, claimed.task_id, claimed.attempts + 1))
    return rows
