"""What one minute holds, as a minute worker last read it, and what the worker wants to claim of it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import structlog
from django.db.models import QuerySet

from scheduling import models
from scheduling.core import clock, keys
from scheduling.dispatch import bucket_slots, claims, overdue, reach, targets
from scheduling.dispatch.messages import Claim, ClaimRequest, ScheduledRequest
from scheduling.handlers.base import Request
from scheduling.jobqueue import host_watch
from scheduling.lists import external_ids, record_lists
from scheduling.models import HandlerKind
from scheduling.store import later

log = structlog.get_logger(__name__)

# Buckets, queues and targets are read no more often than this.
REFRESH_SECONDS = 0.3
# Slots this far ahead are claimed for queues that send something.
AHEAD_SECONDS = 1.0
# Rows of `record` succeed up to this long before their slot, but never before their minute.
RECORD_AHEAD_SECONDS = 0.5
# A bucket that made a tick fail is tried again after this long.
EXCLUDED_SECONDS = 5.0
MINUTE_SECONDS = clock.MINUTE.total_seconds()


def windows_of(number: int) -> QuerySet[models.Window]:
    """Return the windows of all queues that have a bucket in a minute (in minutes since 1970)."""
    return models.Window.objects.filter(starts_at=clock.running_window_start(clock.minute_of(number)))


class MinuteView:
    """The buckets of one minute with their queues and targets."""

    def __init__(self, number: int, now: Callable[[], datetime]) -> None:
        self.number = number
        self.minute = clock.minute_of(number)
        self.now = now
        self.windows: list[int] = []
        # Those in which something waits or is in flight.
        self.buckets: list[models.Bucket] = []
        # Whether the last refresh found none; not known before the first.
        self.is_empty = False
        self.queues: dict[int, models.Queue] = {}
        self.installation: models.Installation | None = None
        self.targets = targets.Targets()
        self.reach = reach.Reach(host_watch.host_name())
        # Those of which nothing may start, whatever was claimed.
        self.tasks_on_hold: frozenset[int] = frozenset()
        # Buckets that made a tick fail: until when none of their IDs are claimed, in seconds after the minute's start.
        self.excluded_until: dict[int, float] = {}
        self._read_at = float("-inf")

    def read_windows(self) -> None:
        """Read which queues have a window: far from the database with the next statement that is waited for."""
        later.read(windows_of(self.number).only("pk"), self._take_windows)

    def _take_windows(self, windows: Iterable[models.Window]) -> None:
        self.windows = [window.pk for window in windows]

    def refresh(self, elapsed: float) -> bool:
        """Read buckets, queues and targets where that is due; return whether it was."""
        # At first it is read at each tick, so that what is sealed is known when the minute begins.
        if REFRESH_SECONDS <= elapsed < self._read_at + REFRESH_SECONDS:
            return False
        self.installation = self.installation or models.Installation.current()
        self.read(elapsed)
        later.wait()
        return True

    def read(self, elapsed: float) -> None:
        """Read buckets, queues and targets: far from the database with the next statement that is waited for."""
        self._read_at = elapsed
        active, at = claims.active_buckets(self.number, self.windows), self.now()
        buckets: list[models.Bucket] = []
        later.read(active, buckets.extend)
        later.read(
            models.Queue.objects.filter(pk__in=active.values("window__queue")),
            lambda queues: self.queues.update({queue.pk: queue for queue in queues}),
        )
        on_hold: list[models.Task] = []
        later.read(models.Task.objects.on_hold().only("pk"), on_hold.extend)
        marks: list[models.Unreachable] = []
        later.read(reach.fresh_marks(at), marks.extend)
        later.read(reach.living_hosts(at), lambda alive: self.reach.look(marks, alive))
        later.read(targets.in_trouble(at), lambda in_trouble: self._take(buckets, on_hold, in_trouble, at))

    def _take(
        self,
        buckets: Iterable[models.Bucket],
        on_hold: Iterable[models.Task],
        in_trouble: Iterable[models.Target],
        at: datetime,
    ) -> None:
        # One that was emptied between the two statements may be without its queue.
        self.buckets = [row for row in buckets if keys.queue_of_bucket(row.pk) in self.queues]
        self.is_empty = not self.buckets
        queues = [self.queues[keys.queue_of_bucket(bucket.pk)] for bucket in self.buckets]
        self.tasks_on_hold = frozenset(task.pk for task in on_hold)
        self.targets.look(queues, in_trouble, at=at)

    def exclude(self, bucket_id: int, elapsed: float) -> None:
        """Claim none of a bucket's IDs for a while."""
        self.excluded_until[bucket_id] = elapsed + EXCLUDED_SECONDS

    def bucket_ids(self) -> list[int]:
        """Return the buckets of the minute, of all queues."""
        return [keys.bucket_id(window_id, self.number % keys.BUCKETS) for window_id in self.windows]

    def expire(self) -> None:
        """Let the next refresh read, however short the time since the last one."""
        self._read_at = float("-inf")

    def has_left(self) -> bool:
        """Whether other hosts have to serve some of it."""
        waiting = (self.queues[keys.queue_of_bucket(b.pk)] for b in self.buckets if b.waiting_count)
        return any(self.reach.is_left(queue) for queue in waiting)

    def blocked_queues(self) -> frozenset[int]:
        """Return the queues whose requests may not start now: paused, blocked, or behind a blocked target."""
        at = self.now()
        held = {pk for pk, queue in self.queues.items() if queue.paused or queue.is_blocked(at)}
        return self.targets.blocked | held

    def claim_requests(self, elapsed: float) -> dict[int, ClaimRequest]:
        """Return what to claim of which bucket, `elapsed` seconds after the minute's start."""
        requests = {}
        for bucket in self.buckets:
            if bucket.waiting_count and self.excluded_until.get(bucket.pk, elapsed) <= elapsed:
                try:
                    request = self._claim_request(bucket, elapsed)
                except ValueError:
                    # Its own columns contradict each other. All other buckets go on.
                    log.exception("bucket_excluded", bucket=bucket.pk)
                    self.exclude(bucket.pk, elapsed)
                else:
                    if request is not None:
                        requests[bucket.pk] = request
        return requests

    def _claim_request(self, bucket: models.Bucket, elapsed: float) -> ClaimRequest | None:
        queue = self.queues[keys.queue_of_bucket(bucket.pk)]
        if queue.paused:
            return None
        immediate = queue.handler == HandlerKind.RECORD
        blocked, is_left = queue.pk in self.targets.blocked, self.reach.is_left(queue)
        until = _claim_until(elapsed, immediate)
        is_early = immediate and elapsed < 0
        if bucket.sealed_at is None:
            # Buckets that don't start yet are sealed too: nothing is claimed before the minute's start.
            seals_only = blocked or is_left or queue.is_blocked(self.now()) or is_early
            return ClaimRequest(queue, elapsed - 1 if seals_only else until, immediate, is_unsealed=True)
        if is_early or not bucket_slots.may_send(bucket, queue) or not _slots_are_due(bucket, elapsed, until):
            return None
        return self._of_sealed_bucket(queue, until, immediate, blocked=blocked, is_left=is_left)

    def _of_sealed_bucket(
        self, queue: models.Queue, until: float, immediate: bool, *, blocked: bool, is_left: bool
    ) -> ClaimRequest | None:
        """Return what to claim where slots are due. is_left: this host leaves the target to the others."""
        if is_left:
            trying = not blocked and self.reach.may_try(queue, at=self.now())
            return ClaimRequest(queue, until, immediate, at_most=1) if trying else None
        if queue.is_blocked(self.now()):
            return None
        return self._probe(queue, until, immediate) if blocked else ClaimRequest(queue, until, immediate)

    def _probe(self, queue: models.Queue, until: float, immediate: bool) -> ClaimRequest | None:
        """Return what to claim as a probe of a blocked target, if it is time for one.

        It goes out at once, so that the next can't come sooner than half a minute after it.
        """
        if not self.targets.probe(queue, now=self.now):
            return None
        # Its failure should not be an ID's last one if the next minute can have another ID.
        spare = queue.max_attempts - 1 if overdue.has_spare_probe(queue, self.now()) else None
        return ClaimRequest(queue, until, immediate, at_most=1, attempts_below=spare)

    def scheduled_requests(
        self, claimed: Iterable[Claim], tasks: Mapping[int, models.Task]
    ) -> list[ScheduledRequest]:
        """Return the requests of claimed IDs. tasks: by key, as they were when the IDs were claimed."""
        claimed = list(claimed)
        installation = self.installation or models.Installation.current()
        contents = _contents(claimed, tasks)
        # Of tasks whose IDs are numbers nothing is read.
        texts = external_ids.texts(claim.user_id for claim in claimed)
        scheduled = []
        for claim in claimed:
            queue = self.queues[keys.queue_of_bucket(claim.bucket_id)]
            request = Request(
                user_id=claim.user_id,
                task_id=claim.task_id,
                task_name=tasks[claim.task_id].name,
                queue=queue.name,
                planned_at=self.minute,
                attempt=claim.attempts + 1,
                key_part=installation.key_part_of(claim.task_id),
                external_id=texts.get(claim.user_id),
                data=contents[claim.task_id].get(claim.user_id) if claim.task_id in contents else None,
            )
            scheduled.append(ScheduledRequest(claim, request, queue))
        return scheduled


def _contents(
    claimed: Iterable[Claim], tasks: Mapping[int, models.Task]
) -> dict[int, Mapping[int, Mapping[str, Any]]]:
    """Return the data of claimed IDs, by task and ID. Of tasks without data nothing is read."""
    with_data: dict[int, list[int]] = {
        task.pk: [] for task in tasks.values() if task.data_columns is not None
    }
    for claim in claimed if with_data else ():
        if claim.task_id in with_data:
            with_data[claim.task_id].append(claim.user_id)
    return {task_id: record_lists.read(task_id, users) for task_id, users in with_data.items()}


def _claim_until(elapsed: float, immediate: bool) -> float:
    return min(MINUTE_SECONDS, elapsed + (RECORD_AHEAD_SECONDS if immediate else AHEAD_SECONDS))


def _slots_are_due(bucket: models.Bucket, elapsed: float, until: float) -> bool:
    """Whether a claim up to `until` would find slots: most ticks of a slow queue don't."""
    if bucket.claimed_to_id == keys.range_of_bucket(bucket.pk)[1]:
        return False
    plan = bucket_slots.plan_of(bucket)
    if plan.slots_between(0, until).stop > bucket.planned_cursor:
        return True
    return bucket.leftover_count > 0 and bool(plan.free_between(max(0.0, elapsed), until, bucket.cursor))
