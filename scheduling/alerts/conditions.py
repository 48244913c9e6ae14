"""The conditions of alerts. Each only reads, and returns what it finds: one finding for each subject."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import BigIntegerField, Min
from django.db.models.functions import Coalesce
from django.urls import reverse

from scheduling import models
from scheduling.core import capacity, clock, disk, keys, limits
from scheduling.dispatch import overdue, targets
from scheduling.events import recording
from scheduling.models import AlertKind
from scheduling.placement import budgets, quotas, shapes
from scheduling.proof import checks
from scheduling.reports import health

# How long a missed deadline, and an abandoned callback, are still reported afterwards.
MISSED_FOR = clock.QUARTER
ABANDONED_FOR = timedelta(days=1)


@dataclass(frozen=True)
class Finding:
    """A condition that holds for a subject.

    subject: identifies it among those of its kind. text: a sentence. path: of the page that shows more. since: when it
    began, where that is known.
    """

    subject: str
    text: str
    path: str
    since: datetime | None = None


def find(kind: AlertKind, threshold: int, *, at: datetime) -> list[Finding]:
    """Return the findings of a condition. threshold: in the unit of its watch; 0 if it has none."""
    return list(_CONDITIONS[kind](at, threshold))


def _ids_late(at: datetime, minutes: int) -> Iterator[Finding]:
    """IDs that have been late for at least `minutes`, whether they wait in a past minute or were moved to a later one.

    What is paused, or on hold, is late on purpose.
    """
    latest = clock.minute_start(at - timedelta(minutes=minutes)) - clock.MINUTE
    running = models.Queue.objects.filter(paused_at=None).exclude(brake_per_minute=0)
    names = dict(running.values_list("pk", "name"))
    late = models.Bucket.objects.filter(waiting_count__gt=0, window__queue__in=names)
    late = late.exclude(pk__in=overdue.buckets_of_stopped_tasks_alone())
    since = Coalesce("late_since_bucket_id", "id", output_field=BigIntegerField())
    by_queue = late.order_by().values_list("window__queue").annotate(since=Min(since))
    for queue_id, bucket_id in by_queue:
        minute = keys.minute_of_bucket(bucket_id)
        if minute <= latest:
            name = names[queue_id]
            path = f"{reverse('drill_down')}?queue={name}&kind=late"
            text = f"IDs of the queue {name} have been late since {minute:%H:%M} UTC."
            yield Finding(f"{queue_id}", text, path, minute + clock.MINUTE)


def _target_blocked(at: datetime, minutes: int) -> Iterator[Finding]:
    for target in targets.in_trouble(at).order_by("pk"):
        if targets.is_blocked(target, at):
            reason = targets.reason_of(target)
            text = f"Requests to {target.origin} are blocked: {reason}."
            yield Finding(target.origin, text, reverse("board"), target.opened_at)
    for queue in models.Queue.objects.filter(blocked_until__gt=at).order_by("pk"):
        text = f"Requests of the queue {queue.name} are blocked: {queue.block_reason}."
        yield Finding(f"queue {queue.name}", text, reverse("queue", args=[queue.name]))


def _list_on_hold(at: datetime, threshold: int) -> Iterator[Finding]:
    for task in models.Task.objects.on_hold().order_by("pk"):
        reason = f": {task.hold_reason}" if task.hold_reason else ""
        yield Finding(
            f"{task.pk}", f"The list “{task.name}” is on hold{reason}.", recording.path_of(task), task.held_at
        )


def _deadline(at: datetime, threshold: int) -> Iterator[Finding]:
    with_deadline = models.Task.objects.filter(deadline_at__isnull=False, cancelled_at=None)
    just_done = with_deadline.filter(finished_at__gt=at - MISSED_FOR)
    for task in [*with_deadline.filter(finished_at=None).order_by("pk"), *just_done.order_by("pk")]:
        if task.deadline_at is None or not task.misses_deadline_at(at):
            continue
        due, done = f"{task.deadline_at:%d %b %H:%M} UTC", f"{task.ends_at:%d %b %H:%M} UTC"
        if task.finished_at is not None:
            text = f"The list “{task.name}” was done at {done}, after its deadline, {due}."
        elif task.deadline_at < at:
            text = f"The list “{task.name}” has missed its deadline, {due}."
        else:
            text = f"The list “{task.name}” will be done at {done}, after its deadline, {due}."
        yield Finding(f"{task.pk}", text, recording.path_of(task))


def _quota(at: datetime, percent: int) -> Iterator[Finding]:
    for queue in models.Queue.objects.exclude(quotas=[]).order_by("pk"):
        path = reverse("queue", args=[queue.name])
        for number, words in _nearly_used(shapes.of(queue), [queue.pk], percent, at):
            yield Finding(f"{queue.pk}.{number}", f"The queue {queue.name} has used {words}.", path)
    for target in models.Target.objects.exclude(quotas=[]).order_by("pk"):
        queue_ids = budgets.queue_ids_of(target.pk)
        for number, words in _nearly_used(budgets.shape_of(target), queue_ids, percent, at):
            text = f"The queues of {target.origin} have used {words}."
            yield Finding(f"{target.origin} {number}", text, reverse("target", args=[target.pk]))


def _nearly_used(
    shape: capacity.Shape, queue_ids: list[int], percent: int, at: datetime
) -> Iterator[tuple[int, str]]:
    """Yield the number of each quota of which at least `percent` is used, with words for how much that is."""
    for number, (quota, used) in enumerate(quotas.used(shape, queue_ids, at)):
        if used * 100 >= quota.limit * percent:
            yield number, f"{used:,} of this {quota.per}'s {quota.limit:,} requests"


def _cluster_silent(at: datetime, threshold: int) -> Iterator[Finding]:
    for name in health.CLUSTERS:
        state = health.cluster_health(name, at)
        if state.age_seconds is None:
            yield Finding(name, f"No cluster of the kind “{name}” is running.", reverse("board"))
        elif state.silent_count:
            rest = "Another one is doing its work" if state.alive_count else "No other one is doing its work"
            text = f"A cluster of the kind “{name}” is silent. {rest}."
            yield Finding(name, text, reverse("board"))


def _quarter_hour(at: datetime, threshold: int) -> Iterator[Finding]:
    latest = models.QuarterRun.objects.order_by("-quarter_at").values_list("quarter_at", flat=True).first()
    # One that has just begun may still be processed in time.
    due = clock.quarter_start(at - limits.QUARTER_LATE)
    if latest is None or latest < due:
        text = f"The quarter-hour of {due:%H:%M} UTC has not been processed."
        yield Finding("", text, reverse("board"))


def _plan_check(at: datetime, threshold: int) -> Iterator[Finding]:
    latest = checks.stored().filter(ended_at__isnull=False).values_list("pk", "found_count").first()
    if latest is not None and latest[1]:
        discrepancies = "1 discrepancy" if latest[1] == 1 else f"{latest[1]:,} discrepancies"
        text = f"The latest check of the plan found {discrepancies}."
        yield Finding("", text, f"{reverse('proof')}?check={latest[0]}")


def _disk_low(at: datetime, threshold: int) -> Iterator[Finding]:
    alive = models.Heartbeat.objects.filter(seen_at__gt=at - limits.SILENT_AFTER, disks__isnull=False)
    low = {
        (host, volume.name): volume
        for host, disks in alive.order_by("host", "pk").values_list("host", "disks")
        for volume in (disk.Volume(*values) for values in disks or ())
        if volume.is_low
    }
    for (host, name), volume in low.items():
        free = f"{volume.free_bytes / 1e6:,.0f} MB"
        text = f"The disk with {name} of the host {host} is nearly full: {free} are free."
        yield Finding(f"{host} {name}", text, reverse("board"))


def _callback(at: datetime, threshold: int) -> Iterator[Finding]:
    """Callbacks that were abandoned lately, by queue, unless they were delivered after all."""
    lines = models.Activity.objects.filter(verb="gave_up_calling_back", at__gt=at - ABANDONED_FOR)
    abandoned = models.Task.objects.filter(
        no_callback=True, called_back_at=None, pk__in=lines.values("object_id")
    )
    counts = Counter(abandoned.values_list("queue_id", "queue__name"))
    for (queue_id, name), count in sorted(counts.items()):
        callbacks = "1 callback was" if count == 1 else f"{count:,} callbacks were"
        text = f"{callbacks} abandoned within the last day in the queue {name}."
        path = f"{reverse('activity')}?verb=gave_up_calling_back"
        yield Finding(f"{queue_id}", text, path)


_CONDITIONS: dict[AlertKind, Callable[[datetime, int], Iterator[Finding]]] = {
    AlertKind.IDS_LATE: _ids_late,
    AlertKind.TARGET_BLOCKED: _target_blocked,
    AlertKind.LIST_ON_HOLD: _list_on_hold,
    AlertKind.DEADLINE: _deadline,
    AlertKind.QUOTA: _quota,
    AlertKind.CLUSTER_SILENT: _cluster_silent,
    AlertKind.QUARTER_HOUR: _quarter_hour,
    AlertKind.PLAN_CHECK: _plan_check,
    AlertKind.DISK_LOW: _disk_low,
    AlertKind.CALLBACK: _callback,
}
