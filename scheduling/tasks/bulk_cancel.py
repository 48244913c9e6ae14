"""Cancel all tasks that match a filter, as they were when somebody looked.

The question, the operation and its result concern the same tasks. Tasks that arrived after the page was drawn are
not included, and tasks that finish meanwhile are no longer cancelled.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from django.db.models import Q, Sum

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core.time_limit import TimeLimit
from scheduling.jobqueue import bulk_operations
from scheduling.models import BulkAct, BulkActKind, TaskState
from scheduling.tasks import cancellation

# The seconds that a click may take; a job does the rest.
CLICK_SECONDS = 1.0
JOB_SECONDS = 5.0


@dataclass(frozen=True)
class Matching:
    """Tasks that aren't over, seen at `at` (aware, UTC). None, "" and () ask for nothing.

    name: how the task's name begins. ids: of tasks that somebody ticked, the only ones meant.
    """

    at: datetime
    up_to_id: int
    queue_id: int | None = None
    state: str = ""
    name: str = ""
    ids: tuple[int, ...] | None = None

    def tasks(self, after_id: int = 0) -> models.TaskQuerySet:
        """Return the tasks that can still be cancelled, oldest first."""
        tasks = models.Task.objects.filter(
            pk__gt=after_id, pk__lte=self.up_to_id, cancelled_at=None, finished_at=None
        )
        if self.ids is not None:
            tasks = tasks.filter(pk__in=self.ids)
        if self.queue_id is not None:
            tasks = tasks.filter(queue=self.queue_id)
        if self.name:
            tasks = tasks.filter(store.begins_with("name", self.name))
        if self.state:
            tasks = tasks.filter(self._was_in_state())
        return tasks.order_by("pk")

    def _was_in_state(self) -> Q:
        was_placed = Q(placed_at__lte=self.at)
        return {
            TaskState.PLACING: Q(placed_at=None) | Q(placed_at__gt=self.at),
            TaskState.PLACED: was_placed & Q(first_minute_at__gt=self.at),
            TaskState.RUNNING: was_placed & Q(first_minute_at__lte=self.at),
        }.get(TaskState(self.state), Q(pk__in=()))

    def words(self) -> dict[str, object]:
        """Return the filter as the activity log records it."""
        filters = {"queue_id": self.queue_id, "state": self.state, "name": self.name, "ids": self.ids}
        return {name: value for name, value in filters.items() if value not in (None, "")}


@dataclass(frozen=True)
class Count:
    """The number of matching unfinished tasks, and of their waiting IDs."""

    tasks: int
    ids: int


def count(matching: Matching) -> Count:
    """Count what a cancel would affect."""
    tasks = matching.tasks().order_by()
    return Count(tasks.count(), tasks.aggregate(ids=Sum("waiting_count"))["ids"] or 0)


def cancel(matching: Matching, *, run: str = "", by: Actor, now: Callable[[], datetime]) -> tuple[int, int]:
    """Cancel all that match, some at once and the rest in a job. Returns how many are done and how many remain.

    run: a name by which it can be followed and stopped. Each task is cancelled as one alone is, with a line of its
    own in the activity log.
    """
    counts = count(matching)
    at = now()
    with store.write():
        activity.record(
            by, "cancelled_matching", at=at, count=counts.tasks, after={"matching": matching.words()}
        )
        request = {**asdict(matching), "at": matching.at.isoformat()}
        act = bulk_operations.begin(
            BulkActKind.CANCEL_MATCHING, request=request, number=counts.tasks, name=run, by=by, at=at
        )
    return _cancel(act, matching, by=by, now=now, seconds=CLICK_SECONDS)


def resume(act_id: int, now: Callable[[], datetime]) -> None:
    """Continue where the last worker stopped, unless another one has claimed the operation."""
    if claimed := bulk_operations.claim_and_read(act_id, _read, now):
        act, (matching, by) = claimed
        _cancel(act, matching, by=by, now=now, seconds=JOB_SECONDS)


def _read(act: BulkAct) -> tuple[Matching, Actor]:
    ids = act.asked["ids"]
    matching = {
        **act.asked,
        "at": datetime.fromisoformat(act.asked["at"]),
        "ids": None if ids is None else tuple(ids),
    }
    return Matching(**matching), bulk_operations.actor_of(act)


def _cancel(
    act: BulkAct, matching: Matching, *, by: Actor, now: Callable[[], datetime], seconds: float
) -> tuple[int, int]:
    limit, done = TimeLimit(seconds), 0
    try:
        # One query a task: each is a row by its key, and no list of millions is in memory.
        while task := matching.tasks(act.after_id).first():
            if limit.is_over:
                bulk_operations.hand_over(act, at=now())
                return done, matching.tasks(act.after_id).count()
            with store.write():
                bulk_operations.advance(act, after_id=task.pk, at=now())
                cancellation.cancel(task, by=by, now=now)
                bulk_operations.count(act, 1)
            done += 1
    except bulk_operations.Overtaken:
        return done, matching.tasks(act.after_id).count()
    bulk_operations.end(act, at=now())
    return done, 0
