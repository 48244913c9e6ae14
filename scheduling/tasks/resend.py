"""An operator retries failed IDs (one, those of a task, or all that match), or resends those that succeeded.

They take free places, as automatic retries do. IDs that failed or were sent after the operator had looked are not
included.
"""

from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import IntegrityError
from django.db.models import QuerySet

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import clock, keys
from scheduling.core.batches import batches
from scheduling.core.errors import TaskCancelled
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import bulk_operations
from scheduling.lists import erased
from scheduling.models import BulkAct, BulkActKind, MoveReason, Status
from scheduling.placement import ledger, moves, reservations
from scheduling.tasks.failures import FailureSelection

SLICE_IDS = 2_000
# The seconds that a click may take; a job does the rest.
CLICK_SECONDS = 1.0
JOB_SECONDS = 5.0


class Retried(NamedTuple):
    """The number of IDs that wait again, and whether a job continues with the rest."""

    ids_count: int
    continues: bool


def erased_failures(selection: FailureSelection) -> set[int]:
    """Return the rows that match, by key, of people who were erased since: they aren't retried."""
    return {key for batch in batches(_rows_of_erased(Status.FAILED)) for key in selection.among(batch)}


def retry(
    selection: FailureSelection,
    *,
    left_out: Collection[int] = (),
    number: int,
    run: str,
    by: Actor,
    now: Callable[[], datetime],
) -> Retried:
    """Retry all that match: some at once, the rest in a job.

    selection: with the moment at which somebody looked. left_out: keys of rows to leave out. number: how many IDs that
    are, as the question said. run: a name by which it can be stopped.
    """
    at = now()
    try:
        with store.write():
            activity.record(
                by, "retried", at=at, count=number, after={"asked": _as_json(selection), "run": run}
            )
            stored = {"matching": _as_json(selection), "left_out": sorted(left_out)}
            act = bulk_operations.begin(
                BulkActKind.RETRY_FAILED, request=stored, number=number, name=run, by=by, at=at
            )
    except IntegrityError:
        return _begun_already(run)
    return _retry(act, selection, left_out, now=now, seconds=CLICK_SECONDS)


def _begun_already(run: str) -> Retried:
    """Return what a run has done so far that was asked for twice: by two clicks, or after an error page."""
    act = BulkAct.objects.get(name=run)
    return Retried(act.done_count, act.ended_at is None)


def resume_retry(act_id: int, now: Callable[[], datetime]) -> None:
    """Continue where the last worker stopped, unless another one has claimed the operation."""
    if claimed := bulk_operations.claim_and_read(act_id, _read_retry, now):
        act, (selection, left_out) = claimed
        _retry(act, selection, left_out, now=now, seconds=JOB_SECONDS)


def _read_retry(act: BulkAct) -> tuple[FailureSelection, frozenset[int]]:
    matching = dict(act.asked["matching"])
    for name in ("since", "at"):
        if matching.get(name):
            matching[name] = datetime.fromisoformat(matching[name])
    return FailureSelection(**matching), frozenset(act.asked["left_out"])


def succeeded_until(task: models.Task, *, at: datetime) -> QuerySet[models.Assignment]:
    """The rows of a task that succeeded in minutes up to `at`; resends go into later ones."""
    last = keys.bucket_at(task.queue_id, clock.minute_start(at))
    first = keys.bucket_at(task.queue_id, clock.minute_start(task.first_minute_at))
    return models.Assignment.objects.filter(
        pk__range=keys.range_of_buckets(first, last), task=task, status=Status.SUCCEEDED
    ).order_by("pk")


def count_to_resend(task: models.Task, *, at: datetime) -> int:
    """Return how many IDs a resend sends again: those that succeeded until then, of people who weren't erased since."""
    rows = succeeded_until(task, at=at)
    erased_rows = _rows_of_erased(Status.SUCCEEDED, task=task)
    return rows.count() - sum(rows.filter(pk__in=batch).count() for batch in batches(erased_rows))


def resend(
    task: models.Task, *, looked_at: datetime, number: int, run: str, by: Actor, now: Callable[[], datetime]
) -> Retried:
    """Resend the requests of IDs that succeeded: some at once, the rest in a job.

    looked_at: IDs that succeeded later are not included. number: how many IDs that are, as the question said. Raises
    TaskCancelled.
    """
    if task.cancelled_at is not None:
        raise TaskCancelled
    at = now()
    try:
        with store.write():
            activity.record(by, "sent_again", task, at=at, count=number, after={"run": run})
            stored = {"task": task.pk, "looked_at": looked_at.isoformat()}
            act = bulk_operations.begin(
                BulkActKind.SEND_AGAIN, request=stored, number=number, name=run, by=by, at=at
            )
    except IntegrityError:
        return _begun_already(run)
    return _resend(act, task, looked_at, now=now, seconds=CLICK_SECONDS)


def resume_resend(act_id: int, now: Callable[[], datetime]) -> None:
    """Continue where the last worker stopped, unless another one has claimed the operation."""
    claimed = bulk_operations.claim_and_read(act_id, _read_resend, now)
    if claimed is None:
        return
    act, (task_id, looked_at) = claimed
    task = models.Task.objects.filter(pk=task_id).first()
    if task is None:
        # Past its retention by now.
        bulk_operations.end(act, at=now())
        return
    _resend(act, task, looked_at, now=now, seconds=JOB_SECONDS)


def _read_resend(act: BulkAct) -> tuple[int, datetime]:
    return int(act.asked["task"]), datetime.fromisoformat(act.asked["looked_at"])


def _resend(
    act: BulkAct, task: models.Task, looked_at: datetime, *, now: Callable[[], datetime], seconds: float
) -> Retried:
    def following() -> tuple[int, list[int], int] | None:
        remaining = succeeded_until(task, at=looked_at).filter(pk__gt=act.after_id)
        row_keys = list(remaining.values_list("pk", flat=True)[:SLICE_IDS])
        return (task.queue_id, row_keys, row_keys[-1]) if row_keys else None

    return _in_slices(act, following, was=Status.SUCCEEDED, now=now, seconds=seconds)


def _as_json(selection: FailureSelection) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(selection).items()
        if value is not None
    }


def _retry(
    act: BulkAct,
    selection: FailureSelection,
    left_out: Collection[int],
    *,
    now: Callable[[], datetime],
    seconds: float,
) -> Retried:
    excluded = set(left_out)

    def following() -> tuple[int, list[int], int] | None:
        row_keys = [row.key for row in selection.rows(after=act.after_id, limit=SLICE_IDS)]
        if not row_keys:
            return None
        # The queue is the upper part of a key, so the rows of one queue are adjacent.
        queue_id = keys.queue_of_bucket(keys.bucket_of_assignment(row_keys[0]))
        of_queue = [
            key for key in row_keys if keys.queue_of_bucket(keys.bucket_of_assignment(key)) == queue_id
        ]
        return queue_id, [key for key in of_queue if key not in excluded], of_queue[-1]

    return _in_slices(act, following, was=Status.FAILED, now=now, seconds=seconds)


def _in_slices(
    act: BulkAct,
    following: Callable[[], tuple[int, list[int], int] | None],
    *,
    was: Status,
    now: Callable[[], datetime],
    seconds: float,
) -> Retried:
    """Do slice after slice until the time is up, and leave the rest to a job.

    following: returns the queue, the rows and the last key of the next slice; None if nothing remains.
    """
    limit, done = TimeLimit(seconds), 0
    try:
        while batch := following():
            if limit.is_over:
                bulk_operations.hand_over(act, at=now())
                return Retried(done, True)
            queue_id, row_keys, last = batch
            with store.bulk_write():
                bulk_operations.advance(act, after_id=last, at=now())
                moved = _slice(queue_id, row_keys, now, was=was)
                bulk_operations.count(act, moved)
            done += moved
    except bulk_operations.Overtaken:
        return Retried(done, not bulk_operations.is_stopped(act.name))
    bulk_operations.end(act, at=now())
    return Retried(done, False)


def _slice(queue_id: int, row_keys: list[int], now: Callable[[], datetime], *, was: Status) -> int:
    """Give these rows another minute, in the transaction that is open; return how many."""
    if not row_keys:
        return 0
    queue = reservations.lock_queue(queue_id)
    buckets = sorted({keys.bucket_of_assignment(key) for key in row_keys})
    list(models.Bucket.objects.select_for_update().filter(pk__in=buckets).order_by("pk").values_list("pk"))
    at = now()
    # Read again under the lock: somebody else may have been faster.
    waiting = models.Assignment.objects.filter(pk__in=row_keys, status=was).order_by("pk")
    rows = [moves.Row(*row) for row in waiting.values_list("pk", "user_id", "task_id", "attempts")]
    tasks = ledger.lock_tasks({row.task_id for row in rows})
    rows = _not_erased([row for row in rows if tasks[row.task_id].cancelled_at is None])
    places = moves.move(
        queue,
        rows,
        from_minute=clock.next_unsealed_minute(at),
        reason=MoveReason.OPERATOR,
        was=was,
        at=at,
    )
    return sum(place.count for place in places)


def _rows_of_erased(was: Status, **conditions: Any) -> list[int]:
    """Return the rows, by key, that are left out since their people were erased."""
    left_out: list[int] = []
    for users in batches(erased.people()):
        matching = models.Assignment.objects.filter(user_id__in=users, status=was, **conditions)
        rows = [moves.Row(*row) for row in matching.values_list("pk", "user_id", "task_id", "attempts")]
        left_out += {row.key for row in rows}.difference(row.key for row in _not_erased(rows))
    return left_out


def _not_erased(rows: list[moves.Row]) -> list[moves.Row]:
    """Leave out the IDs of people who were erased since their list was accepted: nothing is sent of them again."""
    erased_at = erased.latest({row.user_id for row in rows})
    if not erased_at:
        return rows
    tasks = models.Task.objects.filter(pk__in={row.task_id for row in rows})
    accepted_at = dict(tasks.values_list("pk", "created_at"))
    never = datetime.min.replace(tzinfo=UTC)
    return [row for row in rows if erased_at.get(row.user_id, never) < accepted_at[row.task_id]]
