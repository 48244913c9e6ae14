"""What becomes of IDs whose requests were made: succeeded, failed for good, or sent again in another minute."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from scheduling import models, store
from scheduling.core import clock, keys
from scheduling.core.limits import ERROR_CHARACTERS
from scheduling.core.retry import Verdict, due_at, retry_after_seconds
from scheduling.dispatch import targets
from scheduling.dispatch.messages import Claim, ClassifiedResults, RequestResult, Result, Retry
from scheduling.handlers.base import Outcome, truncate
from scheduling.models import MoveReason, Status
from scheduling.placement import ledger, moves
from scheduling.placement.snapshot import Snapshot
from scheduling.store import later

# Where retries go as a rule, from the window of their minute on.
WINDOWS_READ = 8


def classify(
    answered: Sequence[RequestResult], queues: Mapping[int, models.Queue], *, minute: datetime, at: datetime
) -> ClassifiedResults:
    """Separate the results that are recorded as they are from those that are sent again in another minute.

    minute: its start. at: when this is looked at.
    """
    classified = ClassifiedResults()
    for result in answered:
        claim, outcome = result.scheduled.claim, result.outcome
        if outcome is None or result.started is None:
            # Not made in time, or for no fault of its own: no attempt.
            classified.results.append(Result(claim, Status.WAITING))
            continue
        started_ms = max(0, round(result.started * 1000))
        queue = queues[result.scheduled.queue_id]
        status = _status(outcome, claim, queue)
        # Of a success, only what is unusual about it.
        remarkable = status != Status.SUCCEEDED or outcome.error or outcome.keep_answer
        attempt = _attempt(result, outcome, minute) if remarkable else None
        if status is not None:
            classified.results.append(Result(claim, status, started_ms, attempt))
        elif attempt is not None:
            due = _due_at(outcome, claim, queue, at)
            classified.retries.append(Retry(claim, started_ms, attempt, due))
    return classified


def _status(outcome: Outcome, claim: Claim, queue: models.Queue) -> Status | None:
    """Return what becomes of an ID whose request was made; None: it is sent again in another minute."""
    if outcome.verdict == Verdict.SUCCEEDED:
        return Status.SUCCEEDED
    if outcome.verdict == Verdict.FAILED or claim.attempts + 1 >= queue.max_attempts:
        return Status.FAILED
    # Nobody has booked another start: with a quota, it needs a minute whose period has room.
    return Status.WAITING if outcome.retry_in_this_minute and not queue.quotas else None


def _due_at(outcome: Outcome, claim: Claim, queue: models.Queue, at: datetime) -> datetime:
    if outcome.retry_in_this_minute:
        return at
    wait = retry_after_seconds(outcome.status, outcome.retry_after, at=at)
    return due_at(
        at,
        attempts=claim.attempts + 1,
        random=random.random(),
        not_before=None if wait is None else at + timedelta(seconds=wait),
        delays=queue.retry_delays_minutes,
    )


def _attempt(result: RequestResult, outcome: Outcome, minute: datetime) -> models.Attempt:
    claim = result.scheduled.claim
    return models.Attempt(
        task_id=claim.task_id,
        user_id=claim.user_id,
        number=claim.attempts + 1,
        bucket_id=claim.bucket_id,
        started_at=minute + timedelta(seconds=result.started or 0),
        duration_ms=outcome.duration_ms,
        http_status=outcome.status,
        answer=truncate(outcome.answer),
        error=truncate(outcome.error, ERROR_CHARACTERS),
    )


def place_retries(queue_id: int, retries: Sequence[Retry], owner: int, now: Callable[[], datetime]) -> None:
    """Give the retries of a queue the first free places from when they are due: one transaction."""
    if not retries:
        return
    with store.write():
        # All of this by one round trip, in the order of the locks.
        locked: list[models.Queue] = []
        store.read_locked_queues("id", [queue_id], locked.extend)
        bucket_ids = sorted({retry.claim.bucket_id for retry in retries})
        buckets = models.Bucket.objects.select_for_update().filter(pk__in=bucket_ids).order_by("pk")
        later.read(buckets.only("pk"), lambda rows: None)
        batches = models.Batch.objects.filter(pk__in={retry.claim.batch_id for retry in retries}, owner=owner)
        owned: set[int] = set()
        later.read(
            batches.select_for_update().order_by("pk").only("pk"),
            lambda rows: owned.update(row.pk for row in rows),
        )
        tasks: dict[int, models.Task] = {}
        task_ids = {retry.claim.task_id for retry in retries}
        later.read(ledger.locked_tasks(task_ids), lambda rows: tasks.update((task.pk, task) for task in rows))
        snapshot = Snapshot()
        first_window = keys.window_of_bucket(bucket_ids[0])
        snapshot.read(first_window, first_window + WINDOWS_READ - 1)
        snapshot.read_versions(first_window, first_window + WINDOWS_READ - 1)
        snapshot.read_tasks(task_ids)
        snapshot.read_armed(first_window)
        in_trouble: list[models.Target] = []
        later.read(targets.in_trouble(now()), in_trouble.extend)
        later.wait()
        store.lock_new_targets(locked)
        (queue,) = locked
        at = now()
        # What was lost meanwhile is another worker's: there it is counted as a possible repeat.
        retries = [retry for retry in retries if retry.claim.batch_id in owned]
        cancelled = {task_id for task_id, task in tasks.items() if task.cancelled_at is not None}
        _record_attempts([retry for retry in retries if retry.claim.task_id in cancelled], Status.FAILED)
        remaining = [retry for retry in retries if retry.claim.task_id not in cancelled]
        _record_attempts(remaining, Status.IN_FLIGHT)
        earliest = targets.first_minute(queue, at, in_trouble)
        for from_minute, rows in sorted(_rows_by_minute(remaining, earliest).items()):
            moves.move(
                queue,
                rows,
                from_minute=from_minute,
                reason=MoveReason.RETRY,
                was=Status.IN_FLIGHT,
                at=at,
                snapshot=snapshot,
            )


def _record_attempts(retries: Sequence[Retry], status: Status) -> None:
    rows = [
        (retry.claim.key, int(status), retry.claim.attempts + 1, retry.started_after_ms) for retry in retries
    ]
    store.set_outcomes(rows, was=Status.IN_FLIGHT)
    counters = ledger.Counters()
    for retry in retries:
        counters.started(retry.claim.bucket_id)
        if status != Status.IN_FLIGHT:
            counters.change(retry.claim.task_id, retry.claim.bucket_id, Status.IN_FLIGHT, status)
    counters.write()
    later.insert(retry.attempt for retry in retries)


def _rows_by_minute(retries: Sequence[Retry], earliest: datetime) -> dict[datetime, list[moves.Row]]:
    """Return the rows by the first minute that begins once they are due."""
    rows: dict[datetime, list[moves.Row]] = defaultdict(list)
    for retry in retries:
        claim = retry.claim
        first = max(clock.minute_start(retry.due_at) + clock.MINUTE, earliest)
        rows[first].append(moves.Row(claim.key, claim.user_id, claim.task_id, claim.attempts + 1))
    return rows
