"""An operator has failed IDs tried again (one, a task's, all that match), or a task's sent once more.

They take free places, as retries do. What failed or was sent after the operator had looked is not meant.
"""

import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple

from django.core.cache import cache

from operators.actor import Actor

from . import activity, claims, clock, cluster, keys, models, moves, placement, store
from .errors import TaskCancelled
from .failures import Asked
from .models import MoveReason, Status

SLICE_IDS = 2_000
# As long as a click may take; what is left then is a job's.
CLICK_SECONDS = 1.0
JOB_SECONDS = 5.0
STOPS_KEPT_SECONDS = 86_400


class Retried(NamedTuple):
    """How many IDs wait again, and whether a job goes on with the rest."""

    count: int
    goes_on: bool


def retry(
    asked: Asked,
    *,
    left_out: Collection[int] = (),
    number: int,
    run: str,
    by: Actor,
    now: Callable[[], datetime],
) -> Retried:
    """Try all that match again: some at once, the rest in a job.

    asked: with the moment at which somebody looked. left_out: keys of rows that they left out. number: how
    many that are, as the question said. run: a name of this run, by which it can be stopped.
    """
    activity.record(by, "retried", at=now(), count=number, after={"asked": _words(asked), "run": run})
    return _go(asked, left_out, run, after=0, now=now, seconds=CLICK_SECONDS)


def go_on(text: str, now: Callable[[], datetime]) -> None:
    """The job: take up where the one before stopped."""
    kept = json.loads(text)
    given = kept["asked"]
    for name in ("since", "at"):
        given[name] = given[name] and datetime.fromisoformat(given[name])
    _go(Asked(**given), kept["left_out"], kept["run"], after=kept["after"], now=now, seconds=JOB_SECONDS)


def succeeded_by(task: models.Task, *, at: datetime):
    """The rows of a task that succeeded in minutes up to `at`; what is sent again goes into later ones."""
    end = keys.bucket_at(task.queue_id, clock.minute_start(at)) + 1
    first = keys.bucket_at(task.queue_id, clock.minute_start(task.first_minute_at))
    return models.Assignment.objects.filter(
        pk__gte=first << 24, pk__lt=end << 24, task=task, status=Status.SUCCEEDED
    ).order_by("pk")


def send_again(
    task: models.Task, *, looked_at: datetime, number: int, run: str, by: Actor, now: Callable[[], datetime]
) -> Retried:
    """Send the requests of IDs that succeeded once more: some at once, the rest in a job.

    looked_at: what succeeded later is not meant. number: how many that are, as the question said. Raises
    TaskCancelled.
    """
    if task.cancelled_at is not None:
        raise TaskCancelled
    activity.record(by, "sent_again", task, at=now(), count=number, after={"run": run})
    return _send(task.pk, looked_at, run, after=0, now=now, seconds=CLICK_SECONDS)


def go_on_sending(text: str, now: Callable[[], datetime]) -> None:
    """The job: take up where the one before stopped."""
    kept = json.loads(text)
    looked_at = datetime.fromisoformat(kept["looked_at"])
    _send(kept["task"], looked_at, kept["run"], after=kept["after"], now=now, seconds=JOB_SECONDS)


def _send(
    task_id: int, looked_at: datetime, run: str, *, after: int, now: Callable[[], datetime], seconds: float
) -> Retried:
    until = time.monotonic() + seconds
    task = models.Task.objects.get(pk=task_id)
    done = 0
    while True:
        behind = succeeded_by(task, at=looked_at).filter(pk__gt=after)
        found = list(behind.values_list("pk", flat=True)[:SLICE_IDS])
        if not found or is_stopped(run):
            return Retried(done, False)
        if time.monotonic() > until:
            kept = {"task": task_id, "looked_at": looked_at.isoformat(), "run": run, "after": after}
            cluster.enqueue("scheduling.jobs.send_again", json.dumps(kept))
            return Retried(done, True)
        after = found[-1]
        done += _slice(task.queue_id, found, now, was=Status.SUCCEEDED)


def stop(run: str, *, by: Actor, at: datetime) -> None:
    """Let a run end after the slice that it is at; what waits again already stays so."""
    cache.set(_stop_key(run), True, STOPS_KEPT_SECONDS)
    activity.record(by, "stopped_retrying", at=at, after={"run": run})


def is_stopped(run: str) -> bool:
    """Whether somebody said stop."""
    return bool(cache.get(_stop_key(run)))


def _stop_key(run: str) -> str:
    return f"retry-stop-{run}"


def _words(asked: Asked) -> dict:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(asked).items()
        if value is not None
    }


def _go(
    asked: Asked,
    left_out: Collection[int],
    run: str,
    *,
    after: int,
    now: Callable[[], datetime],
    seconds: float,
) -> Retried:
    until = time.monotonic() + seconds
    out = set(left_out)
    done = 0
    while found := [row.key for row in asked.rows(after=after, limit=SLICE_IDS)]:
        if is_stopped(run):
            return Retried(done, False)
        if time.monotonic() > until:
            cluster.enqueue("scheduling.jobs.retry_failed", _as_text(asked, out, run, after))
            return Retried(done, True)
        # The queue is the upper part of a key: what is of one queue follows each other.
        queue_id = keys.queue_of_bucket(keys.bucket_of_assignment(found[0]))
        mine = [key for key in found if keys.queue_of_bucket(keys.bucket_of_assignment(key)) == queue_id]
        after = mine[-1]
        done += _slice(queue_id, [key for key in mine if key not in out], now)
    return Retried(done, False)


def _slice(
    queue_id: int, wanted: list[int], now: Callable[[], datetime], *, was: Status = Status.FAILED
) -> int:
    if not wanted:
        return 0
    with store.bulk_write():
        queue = placement.lock_queue(queue_id)
        buckets = sorted({keys.bucket_of_assignment(key) for key in wanted})
        list(
            models.Bucket.objects.select_for_update().filter(pk__in=buckets).order_by("pk").values_list("pk")
        )
        at = now()
        # Read again under the lock: somebody else may have been faster.
        found = models.Assignment.objects.filter(pk__in=wanted, status=was).order_by("pk")
        rows = [moves.Row(*row) for row in found.values_list("pk", "user_id", "task_id", "attempts")]
        tasks = claims.lock_tasks({row.task_id for row in rows})
        rows = [row for row in rows if tasks[row.task_id].cancelled_at is None]
        moves.move(
            queue,
            rows,
            from_minute=clock.next_unsealed_minute(at),
            reason=MoveReason.OPERATOR,
            was=was,
            at=at,
        )
    return len(rows)


def _as_text(asked: Asked, left_out: Collection[int], run: str, after: int) -> str:
    words = {**asdict(asked), **_words(asked)}
    return json.dumps({"asked": words, "left_out": sorted(left_out), "run": run, "after": after})
