"""All tasks that match a filter, as they were when somebody looked: counted for the question, then cancelled.

Question, act and result mean the same tasks: what came in after the page was drawn is none of them, and what
is done meanwhile isn't cancelled any more.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from django.db.models import Q, Sum

from operators.actor import Actor, Face, Kind

from . import activity, amendments, cluster, models, store
from .models import TaskState

# As long as a click may take; what is left then is a job's.
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
        """What of it can still be cancelled, oldest first."""
        found = models.Task.objects.filter(
            pk__gt=after_id, pk__lte=self.up_to_id, cancelled_at=None, finished_at=None
        )
        if self.ids is not None:
            found = found.filter(pk__in=self.ids)
        if self.queue_id is not None:
            found = found.filter(queue=self.queue_id)
        if self.name:
            found = found.filter(store.begins_with("name", self.name))
        if self.state:
            found = found.filter(self._was_in_state())
        return found.order_by("pk")

    def _was_in_state(self) -> Q:
        was_placed = Q(placed_at__lte=self.at)
        return {
            TaskState.PLACING: Q(placed_at=None) | Q(placed_at__gt=self.at),
            TaskState.PLACED: was_placed & Q(first_minute_at__gt=self.at),
            TaskState.RUNNING: was_placed & Q(first_minute_at__lte=self.at),
        }.get(TaskState(self.state), Q(pk__in=()))

    def words(self) -> dict[str, object]:
        """What was asked for, as the activity log keeps it."""
        asked = {"queue_id": self.queue_id, "state": self.state, "name": self.name, "ids": self.ids}
        return {name: value for name, value in asked.items() if value not in (None, "")}


@dataclass(frozen=True)
class Count:
    """tasks: how many match and aren't over. ids: how many of their IDs wait."""

    tasks: int
    ids: int


def count(matching: Matching) -> Count:
    """How much a cancel would take."""
    tasks = matching.tasks().order_by()
    return Count(tasks.count(), tasks.aggregate(ids=Sum("waiting_count"))["ids"] or 0)


def cancel(matching: Matching, *, by: Actor, now: Callable[[], datetime]) -> tuple[int, int]:
    """Cancel all that match, some at once and the rest in a job; return how many are done, how many are left.

    Each is cancelled by the verb of one task, with a line of its own in the activity log.
    """
    found = count(matching)
    after = {"matching": matching.words()}
    activity.record(by, "cancelled_matching", at=now(), count=found.tasks, after=after)
    return _cancel(matching, 0, by=by, now=now, seconds=CLICK_SECONDS)


def go_on(text: str, now: Callable[[], datetime]) -> None:
    """The job: take up where the one before stopped. Once more: what is cancelled is no longer found."""
    kept = json.loads(text)
    given = kept["matching"]
    given["at"] = datetime.fromisoformat(given["at"])
    given["ids"] = None if given["ids"] is None else tuple(given["ids"])
    by = Actor(Kind(kept["by"]["kind"]), kept["by"]["id"], kept["by"]["name"], Face(kept["by"]["face"]))
    _cancel(Matching(**given), kept["after_id"], by=by, now=now, seconds=JOB_SECONDS)


def _cancel(
    matching: Matching, after_id: int, *, by: Actor, now: Callable[[], datetime], seconds: float
) -> tuple[int, int]:
    until = time.monotonic() + seconds
    done = 0
    # One query a task: each is a row by its key, and no list of millions is held.
    while task := matching.tasks(after_id).first():
        if time.monotonic() > until:
            rest = replace(matching, ids=_later(matching.ids, after_id))
            cluster.enqueue("scheduling.jobs.cancel_matching", _as_text(rest, after_id, by))
            return done, matching.tasks(after_id).count()
        amendments.cancel(task, by=by, now=now)
        after_id, done = task.pk, done + 1
    return done, 0


def _later(ids: tuple[int, ...] | None, after_id: int) -> tuple[int, ...] | None:
    return None if ids is None else tuple(number for number in ids if number > after_id)


def _as_text(matching: Matching, after_id: int, by: Actor) -> str:
    given = {**asdict(matching), "at": matching.at.isoformat()}
    return json.dumps({"matching": given, "after_id": after_id, "by": asdict(by)})
